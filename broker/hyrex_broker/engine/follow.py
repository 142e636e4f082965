"""Follows the ends of tasks that others wait for, after the commit of whatever ended them.

An end path only tells which tasks have ended: `ended_in` costs a look at their lane. What was told is
followed by one statement at a time, for up to a thousand tasks, over connections of its own, since it may
wait for a stripe. What is never followed, since its broker was killed, is found by the sweep (`sweep.py`),
which tells the same. What becomes of the nodes of workflows is `nodes.py`.
"""

import asyncio
import logging
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from itertools import islice
from typing import Final, TypeVar

from hyrex_broker.domain.errors import StorageUnavailable
from hyrex_broker.domain.model import LaneId, TaskId
from hyrex_broker.domain.workflows import Decided
from hyrex_broker.engine.dispatch.dispatcher import Dispatcher
from hyrex_broker.engine.lane_directory import Directory
from hyrex_broker.engine.nodes import Nodes
from hyrex_broker.engine.sweep import Sweep
from hyrex_broker.storage.follow import FollowStore
from hyrex_broker.storage.sqlstates import StatementRefused

log = logging.getLogger(__name__)

Told = TypeVar("Told")

BATCH: Final = 1000
MOST_WAITING: Final = 100_000
"""What is told beyond that is left to the sweep."""
_PAUSE_AFTER_FAILURE_S: Final = 0.2


class Follower:
    """Lets go on what waited for tasks that have ended."""

    def __init__(
        self,
        store: FollowStore,
        nodes: Nodes,
        directory: Directory,
        dispatcher: Dispatcher,
        sweep: Sweep,
    ) -> None:
        self._store = store
        self._nodes = nodes
        self._directory = directory
        self._dispatcher = dispatcher
        self._sweep = sweep
        self._tasks: dict[TaskId, None] = {}
        self._keys: dict[int, None] = {}
        self._told = asyncio.Event()
        self._under_way = False
        self._caught_up = False
        self.on_change: Callable[[Iterable[TaskId]], None] = lambda task_ids: None

    def sizes(self) -> dict[str, int]:
        """What is here now, for a report of this process (SIGUSR1)."""
        return {"tasks": len(self._tasks), "keys": len(self._keys)}

    def ended_in(self, lane: LaneId, task_ids: Iterable[TaskId]) -> None:
        """These tasks of a lane have ended for good. Call it after the commit; for plain lanes it does
        nothing."""
        if self._directory.may_be_followed(lane):
            self.ended(task_ids)

    def ended(self, task_ids: Iterable[TaskId], keys: Iterable[int] = ()) -> None:
        """These have ended for good, or were put into `blocked`; the keys are those that cancelled ones
        waited for. Call it after the commit. What there is no room for is left to the sweep."""
        self.take(task_ids, keys)

    def take(self, task_ids: Iterable[TaskId], keys: Iterable[int] = ()) -> bool:
        """Follow these. Return False if there is no room for them now."""
        has_room = len(self._tasks) < MOST_WAITING
        if has_room:
            self._tasks |= dict.fromkeys(task_ids)
            self._keys |= dict.fromkeys(keys)
        self._told.set()
        return has_room

    def begin_catching_up(self) -> None:
        """Watch from now on whether everything that was told is followed."""
        self._caught_up = False

    @property
    def has_caught_up(self) -> bool:
        """True if everything was followed that was told before the last `begin_catching_up`."""
        is_idle = not (self._tasks or self._keys or self._under_way)
        return (self._caught_up or is_idle) and self._nodes.has_caught_up

    def sweep_soon(self) -> None:
        """Look for what nobody has followed, at once: a broker has gone."""
        self._sweep.soon()

    async def run(self) -> None:
        """Follow until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._follow_told())
            group.create_task(self._sweep.run(self))

    async def _follow_told(self) -> None:
        most = BATCH
        while True:
            await self._told.wait()
            self._told.clear()
            while self._tasks or self._keys:
                tasks, keys = _taken(self._tasks, most), _taken(self._keys, most)
                self._under_way = True
                try:
                    await self._follow(tasks, keys)
                    most = min(BATCH, 2 * most)
                except (StorageUnavailable, StatementRefused) as error:
                    log.debug("ends of tasks are followed later", extra={"error": str(error)})
                    self._tasks |= dict.fromkeys(tasks)
                    self._keys |= dict.fromkeys(keys)
                    # So much may go on from them that no statement for all of them is over in time.
                    most = max(1, most // 2)
                    await asyncio.sleep(_PAUSE_AFTER_FAILURE_S)
            self._under_way, self._caught_up = False, True

    async def _follow(self, tasks: list[TaskId], keys: list[int]) -> None:
        moved = await self._store.follow(tasks, keys)
        if moved:
            ready = {(each.lane, each.rank) for each in moved if each.rank is not None}
            if ready:
                self._dispatcher.wake(ready, local=True)
            self._store.counters.cancelled(Counter(each.lane for each in moved if each.rank is None))
            self.on_change([each.task_id for each in moved])
        if tasks:
            self._go_on(await self._nodes.advance(tasks))

    def _go_on(self, decided: Sequence[Decided]) -> None:
        """Nodes went on, or ended: the latter are followed in turn, as are those that have a key."""
        if decided:
            self.on_change([each.task_id for each in decided])
            self.ended(self._nodes.to_follow(decided))


def _taken(waiting: dict[Told, None], most: int) -> list[Told]:
    """Up to so many of what waits, which are taken out."""
    taken = list(islice(waiting, most))
    for each in taken:
        del waiting[each]
    return taken
