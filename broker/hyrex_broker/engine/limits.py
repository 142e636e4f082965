"""Limits that code declares, kept at what the code of the living workers says.

While versions follow each other, workers say different things of one limit. The newest session that names
it decides; when it has left, the newest of those that remain. A limit goes when no living session names it
any more and some that has the task (or queue) says that there is none. Where nobody lives, nothing changes.
"""

import asyncio
import logging
from typing import Final

from hyrex_broker.domain.errors import StorageUnavailable
from hyrex_broker.engine.lane_directory import Directory

log = logging.getLogger(__name__)

_INTERVAL_S: Final = 1.0


class Limits:
    """Looks every second, as far as there are limits of code at all."""

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
