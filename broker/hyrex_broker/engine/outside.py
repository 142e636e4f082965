"""Calls from outside: they end tasks that no worker runs. An end is durable before it is answered."""

from collections.abc import Callable, Iterable, Sequence

from hyrex_broker.domain.model import CompleteOutcome, LaneId, OutsideEnd, TaskId
from hyrex_broker.storage.cancel import CancelStore, Standing
from hyrex_broker.storage.outside import OutsideStore


class OutsideCalls:
    """Ends tasks, and tells who waits for them."""

    def __init__(self, store: OutsideStore, standings: CancelStore) -> None:
        self._store = store
        self._standings = standings
        self.on_change: Callable[[Iterable[TaskId]], None] = lambda task_ids: None
        self.on_ended: Callable[[LaneId, Iterable[TaskId]], None] = lambda lane, task_ids: None
        """Called with tasks of a lane that have ended, after the commit."""

    async def complete(self, task_ids: Sequence[TaskId], end: OutsideEnd) -> list[CompleteOutcome]:
        """One outcome for each id. Raises StorageUnavailable, StatementRefused."""
        ended = await self._store.complete(task_ids, end)
        for task_id, lane in ended.items():
            self.on_ended(lane, [task_id])
        if ended:
            self.on_change(ended)
        outcomes = dict.fromkeys(ended, CompleteOutcome.ENDED)
        missing = [*{*task_ids} - outcomes.keys()]
        for standing in await self._standings.standing(missing) if missing else []:
            outcomes[standing.task_id] = _outcome(standing)
        return [outcomes[task_id] for task_id in task_ids]


def _outcome(standing: Standing) -> CompleteOutcome:
    """What is to be said of a task that a call did not end."""
    if not standing.known:
        return CompleteOutcome.NOT_FOUND
    if standing.live and not standing.expired:
        return CompleteOutcome.NOT_WAITING
    return CompleteOutcome.FINISHED
