"""Retention: partitions for the days ahead are made in time, those past retention are dropped."""

import asyncio
import logging
from datetime import timedelta
from typing import Final

from hyrex_broker.domain.errors import StorageUnavailable
from hyrex_broker.storage.retention import RetentionStore

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
            pause_s = _INTERVAL_S if await self._maintained() else _RETRY_S
            await asyncio.sleep(pause_s)

    async def _maintained(self) -> bool:
        """Whether the round is over; without an answer of the database it is tried again soon."""
        try:
            await self._store.maintain(self._keep)
        except StorageUnavailable as error:
            log.warning("retention will try again", extra={"error": str(error)})
            return False
        except Exception:
            # A partition that cannot be made or dropped is no reason to stop serving: there are others.
            log.exception("retention failed; it goes on at the next round")
        return True
