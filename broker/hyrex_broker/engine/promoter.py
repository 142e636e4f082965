"""The promoter: delayed tasks become ready when the database's clock says so."""

import asyncio
import logging
from datetime import UTC, datetime, timedelta
from typing import Final

from hyrex_broker.domain.errors import StorageUnavailable
from hyrex_broker.engine.dispatcher import Dispatcher
from hyrex_broker.storage.promote import PromoteStore

log = logging.getLogger(__name__)

_ZERO: Final = datetime(1970, 1, 1, tzinfo=UTC)
_BATCH: Final = 1000
_LONGEST_WAIT_S: Final = 1.0
_SHORTEST_WAIT_S: Final = 0.005
_LAG: Final = timedelta(seconds=3)
_FULL_SWEEP_EVERY: Final = 10


class Promoter:
    """Moves due tasks in batches; sleeps until the next one is due, a second at the most."""

    def __init__(self, store: PromoteStore, dispatcher: Dispatcher) -> None:
        self._store = store
        self._dispatcher = dispatcher
        self._expected = asyncio.Event()
        self._mark = _ZERO
        self._rounds = 0

    def expect(self) -> None:
        """A task was delayed here: look anew at what is due next."""
        self._expected.set()

    async def run(self) -> None:
        """Promote until cancelled."""
        while True:
            try:
                wait_s = await self._promote_due()
            except StorageUnavailable:
                log.debug("promoter waits for the database")
                wait_s = _LONGEST_WAIT_S
            try:
                async with asyncio.timeout(wait_s):
                    await self._expected.wait()
                self._expected.clear()
            except TimeoutError:
                pass

    async def _promote_due(self) -> float:
        """Move what is due; return how long nothing will be."""
        self._rounds += 1
        if self._rounds % _FULL_SWEEP_EVERY == 0:
            self._mark = _ZERO
        while True:
            due = await self._store.next_due(self._mark)
            if due.wait_s is None:
                return _LONGEST_WAIT_S
            if due.wait_s > 0:
                return min(max(due.wait_s, _SHORTEST_WAIT_S), _LONGEST_WAIT_S)
            promoted = await self._store.promote(self._mark, _BATCH)
            if not promoted:
                # Another broker holds them.
                return _SHORTEST_WAIT_S
            self._dispatcher.wake({(p.lane, p.rank) for p in promoted}, local=True)
            # Nothing is ever inserted below the database's time; 3 s are the longest statement (rule 11).
            self._mark = min(max(p.last_run_at for p in promoted), due.now - _LAG)
