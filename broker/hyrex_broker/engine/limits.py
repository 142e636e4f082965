"""Keeps limits that code declares equal to what the code of the live workers declares.

During a deploy, workers declare different values of one limit. The newest live session that declares it
decides. A limit is removed when no live session declares it any more, and some session that has the task (or
queue) declares it without a limit. Without live sessions nothing changes.
"""

import asyncio
import logging
from typing import Final

from hyrex_broker.domain.errors import StorageUnavailable
from hyrex_broker.engine.lane_directory import Directory

log = logging.getLogger(__name__)

_INTERVAL_S: Final = 1.0


class Limits:
    """Checks every second, if there are limits that code declares."""

    def __init__(self, directory: Directory) -> None:
        self._directory = directory

    async def run(self) -> None:
        """Look until cancelled."""
        while True:
            await asyncio.sleep(_INTERVAL_S)
            try:
                await self._directory.settle_limits()
            except StorageUnavailable:
                log.debug("limits wait for the database")
