"""The promoter makes delayed tasks ready when they are due, by the database's clock.

`delayed` is read from a low-water mark on. Rows below it, left there by a statement that failed, are looked
for by an asyncio task of its own, since that may take very long while some transaction is held open.
"""

import asyncio
import logging
import time
from datetime import UTC, datetime
from typing import Final

from hyrex_broker.domain.errors import StorageUnavailable
from hyrex_broker.engine.dispatch.dispatcher import Dispatcher
from hyrex_broker.engine.looks import Look
from hyrex_broker.storage.marks import DELAYED, Mark, MarkStore
from hyrex_broker.storage.promote import PromoteStore
from hyrex_broker.storage.settings import LONGEST_STATEMENT

log = logging.getLogger(__name__)

_ZERO: Final = datetime(1970, 1, 1, tzinfo=UTC)
_BATCH: Final = 1000
_LONGEST_WAIT_S: Final = 1.0
_SHORTEST_WAIT_S: Final = 0.005
LOOK_BELOW_S: Final = 5.0
SAVE_EVERY_S: Final = 10.0


class Promoter:
    """Moves due tasks in batches; sleeps until the next one is due, at most a second."""

    def __init__(self, store: PromoteStore, marks: MarkStore, dispatcher: Dispatcher) -> None:
        self._store = store
        self._marks = marks
        self._dispatcher = dispatcher
        self._expected = asyncio.Event()
        self._mark = _ZERO
        self._has_moved = False
        self._save_at = 0.0

    def expect(self) -> None:
        """Look again at what is due next: a task was delayed here."""
        self._expected.set()

    async def run(self) -> None:
        """Promote until cancelled."""
        await self._load_mark()
        async with asyncio.TaskGroup() as group:
            group.create_task(self._promote())
            group.create_task(self._look_below())

    async def _load_mark(self) -> None:
        try:
            for mark in await self._marks.load(delayed=True):
                self._mark = max(self._mark, mark.at)
        except StorageUnavailable:
            log.debug("promoter begins without its mark")

    async def _promote(self) -> None:
        while True:
            try:
                wait_s = await self._promote_due()
                await self._save_mark()
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
        """Move the tasks that are due; return how many seconds to wait for the next."""
        while True:
            due = await self._store.next_due(self._mark)
            if due.wait_s is None or due.wait_s > 0:
                # A row is never inserted as due before the time at which its statement began (rule 11).
                self._mark = max(self._mark, due.now - LONGEST_STATEMENT)
                wait_s = _LONGEST_WAIT_S if due.wait_s is None else due.wait_s
                return min(max(wait_s, _SHORTEST_WAIT_S), _LONGEST_WAIT_S)
            promoted = await self._store.promote(self._mark, _BATCH)
            if not promoted:
                # Another broker has locked them.
                return _SHORTEST_WAIT_S
            self._has_moved = True
            self._dispatcher.wake({(p.lane, p.rank) for p in promoted}, local=True)
            self._mark = min(max(p.last_run_at for p in promoted), due.now - LONGEST_STATEMENT)

    async def _save_mark(self) -> None:
        if self._has_moved and time.monotonic() >= self._save_at:
            self._save_at = time.monotonic() + SAVE_EVERY_S
            await self._marks.save([Mark(DELAYED, 0, self._mark)])
            self._has_moved = False

    async def _look_below(self) -> None:
        look = Look(LOOK_BELOW_S, self._find_below)
        while True:
            await asyncio.sleep(LOOK_BELOW_S / 2)
            try:
                await look.again()
            except StorageUnavailable as error:
                log.debug("promoter could not look below its mark", extra={"error": str(error)})

    async def _find_below(self) -> None:
        left = await self._store.below(self._mark)
        if left is not None:
            self._mark = min(self._mark, left)
            self.expect()
