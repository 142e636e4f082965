"""Fair queues: what waits for one resource is served by caller, not by arrival, and small requests first.

Self-clocked fair queueing (Golestani 1994): an entry's tag is the caller's last tag, or the clock if that is
higher, plus the entry's cost. The lowest tag leaves first, and the clock is the tag of what left last. So
callers that always have something waiting get equal shares of cost, whatever their number of requests, and
one that asks for little and seldom is ahead of all of them.
"""

import asyncio
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from functools import partial
from heapq import heappop, heappush
from typing import Generic, TypeVar

Entry = TypeVar("Entry")


class FairQueue(Generic[Entry]):
    """Entries of many callers; those of one caller leave in their order."""

    def __init__(self) -> None:
        self._heap: list[tuple[int, int, Hashable, Entry]] = []
        self._last: dict[Hashable, int] = {}
        self._clock = 0
        self._count = 0

    def __len__(self) -> int:
        return len(self._heap)

    def push(self, caller: Hashable, cost: int, entry: Entry) -> None:
        """Add an entry; a cost is at least 1."""
        tag = self._last[caller] = max(self._last.get(caller, 0), self._clock) + max(cost, 1)
        self._count += 1
        heappush(self._heap, (tag, self._count, caller, entry))

    @property
    def first(self) -> Entry:
        """The entry that leaves next. Raises IndexError where nothing waits."""
        return self._heap[0][3]

    def pop(self) -> Entry:
        """Take the entry that leaves next. Raises IndexError where nothing waits."""
        self._clock, _, caller, entry = heappop(self._heap)
        if self._last[caller] == self._clock:
            del self._last[caller]  # it has nothing waiting, and the clock has come as far
        return entry

    def take_all(self) -> list[Entry]:
        """Everything that waits, in order; nothing is left."""
        return [self.pop() for _ in range(len(self))]


@dataclass(slots=True, eq=False)
class Permit:
    """The permission to work on a request; its holder calls `leave` once."""

    cost: int
    leave: Callable[[], None]


@dataclass(slots=True, eq=False)
class _Request:
    """A caller that waits to be admitted."""

    cost: int
    admitted: "asyncio.Future[None]"


class Admission:
    """Admits requests while their cost together is below a budget; the others wait in a fair queue.

    A caller without requests under way that asks for little is admitted at once, as long as all such requests
    together stay below a reserve. Otherwise it would wait until requests of other callers end.
    """

    def __init__(self, budget: int, little: int) -> None:
        """`little`: the most that such a request may cost; the reserve is as large as the budget."""
        self._budget = budget
        self._little = little
        self._used = 0
        self._reserve_used = 0
        self._under_way: dict[Hashable, int] = {}
        self._waiting: FairQueue[_Request] = FairQueue()

    async def enter(self, caller: Hashable, cost: int) -> Permit:
        """Wait for a share of the budget."""
        if cost <= self._little and caller not in self._under_way and self._reserve_used < self._budget:
            self._reserve_used += cost
            self._begin(caller)
            return Permit(cost, partial(self._leave_reserve, caller, cost))
        await self._admitted(caller, cost)
        self._begin(caller)
        return Permit(cost, partial(self._leave, caller, cost))

    def _leave_reserve(self, caller: Hashable, cost: int) -> None:
        self._reserve_used -= cost
        self._end(caller)

    def _leave(self, caller: Hashable, cost: int) -> None:
        self._end(caller)
        self._give_back(cost)

    def _begin(self, caller: Hashable) -> None:
        self._under_way[caller] = self._under_way.get(caller, 0) + 1

    def _end(self, caller: Hashable) -> None:
        left = self._under_way[caller] - 1
        if left:
            self._under_way[caller] = left
        else:
            del self._under_way[caller]

    async def _admitted(self, caller: Hashable, cost: int) -> None:
        if not self._waiting and self._fits(cost):
            self._used += cost
            return
        request = _Request(cost, asyncio.get_running_loop().create_future())
        self._waiting.push(caller, cost, request)
        try:
            await request.admitted
        except asyncio.CancelledError:
            if request.admitted.done() and not request.admitted.cancelled():
                self._give_back(cost)
            raise

    def _fits(self, cost: int) -> bool:
        """A request that is larger than the budget is admitted alone."""
        return self._used + cost <= self._budget or not self._used

    def _give_back(self, cost: int) -> None:
        self._used -= cost
        while self._waiting and (self._waiting.first.admitted.done() or self._fits(self._waiting.first.cost)):
            request = self._waiting.pop()
            if not request.admitted.done():  # else its caller has gone
                self._used += request.cost
                request.admitted.set_result(None)
