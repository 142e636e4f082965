"""Retention: partitions for the days ahead are made in time, those past retention are dropped."""

import asyncio
import logging
from datetime import timedelta
from typing import Final

from broker.domain.errors import StorageUnavailable
from broker.storage.retention import RetentionStore

log = logging.getLogger(__name__)

_INTERVAL_S: Final = 1800.0
_RETRY_S: Final = 30.0


class Retention:
    """Looks every half hour; brokers exclude each other by an advisory lock."""

    def __init__(self, store: RetentionStore, keep: timedelta) -> None:
        self._store = store
        self._keep = keep

    async def run(self) -> None:
        """Maintain until cancelled."""
        while True:
            try:
                await self._store.maintain(self._keep)
                await asyncio.sleep(_INTERVAL_S)
            except StorageUnavailable as error:
                log.warning("retention will try again", extra={"error": str(error)})
                await asyncio.sleep(_RETRY_S)
