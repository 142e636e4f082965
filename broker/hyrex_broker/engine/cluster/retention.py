"""Retention: makes partitions for the coming days, and removes what is past its term."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Final

from hyrex_broker.domain.errors import StorageUnavailable
from hyrex_broker.domain.retention import RetentionTerms
from hyrex_broker.storage.retention import RetentionStore

log = logging.getLogger(__name__)

_INTERVAL_S: Final = 1800.0
_RETRY_S: Final = 30.0
_SHORTEST_PAUSE_S: Final = 0.2


async def _nothing() -> None: ...


class Retention:
    """Looks every half hour; brokers exclude each other by an advisory lock."""

    def __init__(self, store: RetentionStore, terms: RetentionTerms) -> None:
        self._store = store
        self._terms = terms
        self._wanted = asyncio.Event()
        self._failed = False
        self.on_round: Callable[[], Awaitable[None]] = _nothing
        """Called after each round, also after one in which another broker had the lock."""

    def hurry(self) -> None:
        """Make partitions now: a day has none, as after days in which no broker ran."""
        self._wanted.set()

    async def run(self) -> None:
        """Maintain until cancelled."""
        while True:
            self._wanted.clear()
            pause_s = _INTERVAL_S if await self._maintained() else _RETRY_S
            await asyncio.sleep(_SHORTEST_PAUSE_S)
            with suppress(TimeoutError):
                async with asyncio.timeout(pause_s):
                    await self._wanted.wait()

    async def _maintained(self) -> bool:
        """Return True if the round is over; without an answer of the database it is tried again soon."""
        try:
            await self._store.maintain(self._terms.finished, self._terms.bad_ends)
            await self.on_round()
        except StorageUnavailable as error:
            if not self._failed:
                log.warning("retention will try again", extra={"error": str(error)})
            self._failed = True
            return False
        except Exception:
            # A partition that cannot be made or dropped is no reason to stop serving: there are others.
            log.exception("retention failed; it goes on at the next round")
        self._failed = False
        return True
