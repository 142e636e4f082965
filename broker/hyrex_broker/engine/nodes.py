"""What follows for workflows when tasks have ended: nodes go on or are skipped, and roots end.

Everything is decided by one statement (`advance`), after the commit of what it follows from; see `follow.py`.
"""

import asyncio
import logging
from collections import Counter
from collections.abc import Awaitable, Callable, Collection, Sequence
from itertools import islice
from typing import Final

from hyrex_broker.domain.errors import StorageUnavailable
from hyrex_broker.domain.model import LaneId, Outcome, TaskId
from hyrex_broker.domain.workflows import ENDED, Became, Decided
from hyrex_broker.engine.dispatch.dispatcher import Dispatcher
from hyrex_broker.engine.dispatch.promoter import Promoter
from hyrex_broker.storage.follow import SweptPage
from hyrex_broker.storage.workflows import WorkflowStore

log = logging.getLogger(__name__)

_CANCELLED_TOGETHER: Final = 1000
_PAUSE_AFTER_FAILURE_S: Final = 0.2
_REASON: Final = "its workflow was cancelled, or another node ended badly"

Cancel = Callable[[Sequence[TaskId], str], Awaitable[object]]


async def _nothing(task_ids: Sequence[TaskId], reason: str) -> None:
    """Until it is connected."""


class Nodes:
    """Lets nodes of workflows go on."""

    def __init__(
        self, store: WorkflowStore, dispatcher: Dispatcher, promoter: Promoter, payload_limit_bytes: int
    ) -> None:
        self._store = store
        self._dispatcher = dispatcher
        self._promoter = promoter
        self._most_bytes = payload_limit_bytes
        self._given_up: dict[TaskId, None] = {}
        self._told = asyncio.Event()
        self.cancel: Cancel = _nothing
        """Cancels tasks, for this reason."""

    async def advance(self, task_ids: Collection[TaskId]) -> list[Decided]:
        """Decide what follows from these ends; what is ready is given to workers. Raises
        StorageUnavailable."""
        decided = await self._store.advance(task_ids, self._most_bytes)
        ready = {(each.lane, each.rank) for each in decided if each.became == Became.READY}
        if ready:
            self._dispatcher.wake(ready, local=True)
        if any(each.became == Became.LATER for each in decided):
            self._promoter.expect()
        self._count(decided)
        given_up = [each.task_id for each in decided if each.became == Became.GIVEN_UP]
        if given_up:
            self._given_up |= dict.fromkeys(given_up)
            self._told.set()
        return [each for each in decided if each.became != Became.GIVEN_UP]

    def to_follow(self, decided: Sequence[Decided]) -> list[TaskId]:
        """Those from which something follows in turn."""
        return [each.task_id for each in decided if each.became == Became.KEYED or each.became > ENDED]

    def _count(self, decided: Sequence[Decided]) -> None:
        ended = [(each.lane, Outcome(each.became - ENDED)) for each in decided if each.became > ENDED]
        cancelled: Counter[LaneId] = Counter()
        for lane, outcome in ended:
            if outcome is Outcome.CANCELLED:
                cancelled[lane] += 1
            else:
                self._store.counters.run_ended(lane, outcome, final=True)
        self._store.counters.cancelled(cancelled)

    @property
    def has_caught_up(self) -> bool:
        """True if no node is still to be cancelled."""
        return not self._given_up

    async def due(self, above: TaskId, limit: int) -> SweptPage:
        """What nobody has followed, among so many blocked tasks. Raises StorageUnavailable."""
        return await self._store.due(above, limit)

    async def run(self) -> None:
        """Cancel nodes of workflows that are given up, until cancelled."""
        while True:
            await self._told.wait()
            self._told.clear()
            while self._given_up:
                portion = list(islice(self._given_up, _CANCELLED_TOGETHER))
                try:
                    # Since it was decided, another broker may have cancelled them, and a retry put them back.
                    still = await self._store.given_up(portion)
                    if still:
                        await self.cancel(still, _REASON)
                except StorageUnavailable as error:
                    log.debug("nodes are cancelled later", extra={"error": str(error)})
                    await asyncio.sleep(_PAUSE_AFTER_FAILURE_S)
                    continue
                for each in portion:
                    del self._given_up[each]
