"""Fair queues: what waits for one resource is served by caller, not by arrival, and small requests first.

Self-clocked fair queueing (Golestani 1994): an entry's tag is the caller's last tag, or the clock if that is
higher, plus the entry's cost. The lowest tag leaves first, and the clock is the tag of what left last. So
callers that always have something waiting get equal shares of cost, whatever their number of requests, and
one that asks for little and seldom is ahead of all of them.
"""

import asyncio
import time
from bisect import insort
from collections.abc import Callable, Coroutine, Hashable
from dataclasses import dataclass
from functools import partial
from heapq import heappop, heappush
from typing import Any, Final, Generic, TypeVar

Entry = TypeVar("Entry")

_LITTLE_OF_SHARE: Final = 4
_LATELY_S: Final = 0.1


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


class AskedLately:
    """What each caller asked for in the last tenth of a second, or two."""

    def __init__(self, little: int, clock: Callable[[], float] = time.monotonic) -> None:
        """`little`: what always is."""
        self._little = little
        self._clock = clock
        self._until = 0.0
        self._now: dict[Hashable, int] = {}
        self._before: dict[Hashable, int] = {}
        self._totals = [0, 0]

    def is_little(self, caller: Hashable, cost: int) -> bool:
        """Count what a caller asks for now; return True if all that it asked for lately is little.

        So is less than a quarter of what each caller would have asked for, had all asked for the same.
        """
        now = self._clock()
        if now >= self._until:
            self._turn(now)
        mine = self._now[caller] = self._now.get(caller, 0) + cost
        self._totals[1] += cost
        mine += self._before.get(caller, 0)
        if mine <= self._little:
            return True
        callers = max(len(self._now), len(self._before))
        return mine * callers * _LITTLE_OF_SHARE <= sum(self._totals)

    def _turn(self, now: float) -> None:
        recent = now < self._until + _LATELY_S
        self._before, self._now = (self._now if recent else {}), {}
        self._totals = [self._totals[1] if recent else 0, 0]
        self._until = now + _LATELY_S


class UnderWay:
    """How much each caller has under way; nothing is kept of those that have nothing."""

    def __init__(self) -> None:
        self._costs: dict[Hashable, int] = {}

    def __len__(self) -> int:
        """How many callers have something."""
        return len(self._costs)

    def begin(self, caller: Hashable, cost: int) -> int:
        """Add a cost, of at least 1; return what the caller has under way with it."""
        mine = self._costs[caller] = self._costs.get(caller, 0) + cost
        return mine

    def end(self, caller: Hashable, cost: int) -> None:
        """Take off what `begin` added."""
        left = self._costs[caller] - cost
        if left > 0:
            self._costs[caller] = left
        else:
            del self._costs[caller]

    def clear(self) -> None:
        """Forget all of it."""
        self._costs.clear()


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
    due: int
    """What its caller had under way when it came, with it; `_LeastFirst` adds one for each before it."""

    def __lt__(self, other: "_Request") -> bool:
        return self.due < other.due


class _LeastFirst:
    """Requests that wait, first those whose callers had the least under way.

    Each that comes later is due one item later, so that nobody is passed over for ever.
    """

    def __init__(self) -> None:
        self._requests: list[_Request] = []
        self._came = 0

    def __len__(self) -> int:
        return len(self._requests)

    def push(self, _caller: Hashable, _cost: int, request: _Request) -> None:
        """Add a request."""
        self._came += 1
        request.due += self._came
        insort(self._requests, request)

    @property
    def first(self) -> _Request:
        """The request that leaves next."""
        return self._requests[0]

    def pop(self) -> _Request:
        """Take the request that leaves next."""
        return self._requests.pop(0)


class _Room:
    """So much cost may be under way at a time; the others wait in a queue."""

    def __init__(self, size: int, waiting: "FairQueue[_Request] | _LeastFirst") -> None:
        self._size = size
        self._used = 0
        self._waiting = waiting

    def ask(self, caller: Hashable, cost: int, under_way: int) -> _Request | None:
        """Take a place; if there is none, the request that waits for one."""
        if not self._waiting and self._fits(cost):
            self._used += cost
            return None
        request = _Request(cost, asyncio.get_running_loop().create_future(), under_way)
        self._waiting.push(caller, cost, request)
        return request

    async def admitted(self, request: _Request) -> None:
        """Wait for a place."""
        try:
            await request.admitted
        except asyncio.CancelledError:
            if request.admitted.done() and not request.admitted.cancelled():
                self.leave(request.cost)
            raise

    def leave(self, cost: int) -> None:
        """Give a place back."""
        self._used -= cost
        while self._waiting and (self._waiting.first.admitted.done() or self._fits(self._waiting.first.cost)):
            request = self._waiting.pop()
            if not request.admitted.done():  # else its caller has gone
                self._used += request.cost
                request.admitted.set_result(None)

    def _fits(self, cost: int) -> bool:
        """A request that is larger than the room is admitted alone."""
        return self._used + cost <= self._size or not self._used


class Admission:
    """Admits requests while their cost together is below a budget; the others wait in a fair queue.

    Requests of callers that ask for little have a reserve of their own. Otherwise they would wait until
    requests of other callers end.
    """

    def __init__(self, budget: int, little: int, request_cost: int = 0) -> None:
        """`little`: what always is (`AskedLately`), 0 for no reserve, which is as large as the budget.
        `request_cost`: of a request as such, beside what it asks for."""
        self._request_cost = request_cost
        self._asked = AskedLately(little) if little else None
        self._under_way = UnderWay()
        self._budget = _Room(budget, FairQueue())
        self._reserve = _Room(budget, _LeastFirst())

    async def enter(self, caller: Hashable, count: int) -> Permit:
        """Wait for a share of the budget."""
        permit, waiting = self.ask(caller, count)
        if waiting is not None:
            await waiting
        return permit

    def ask(self, caller: Hashable, count: int) -> tuple[Permit, Coroutine[Any, Any, None] | None]:
        """A share of the budget, and what must be awaited for it; None: it may be used at once, which spares
        most requests what they would wait in."""
        cost = max(count, 1) + self._request_cost  # whoever asks for nothing is under way all the same
        is_little = self._asked is not None and self._asked.is_little(caller, count)
        room = self._reserve if is_little else self._budget
        request = room.ask(caller, cost, self._under_way.begin(caller, cost))
        waiting = None if request is None else self._admitted(room, caller, request)
        return Permit(cost, partial(self._leave, room, caller, cost)), waiting

    async def _admitted(self, room: _Room, caller: Hashable, request: _Request) -> None:
        try:
            await room.admitted(request)
        except asyncio.CancelledError:
            self._under_way.end(caller, request.cost)
            raise

    def _leave(self, room: _Room, caller: Hashable, cost: int) -> None:
        self._under_way.end(caller, cost)
        room.leave(cost)
