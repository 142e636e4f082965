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

_LITTLE_OF_TYPICAL: Final = 4
_LATELY_S: Final = 0.5


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


class UnderWay:
    """How much each caller has under way, and the most that it had in the last half of a second, or two.

    Only that tells who asks for much. The size of a request does not, since bulk comes in requests of any
    size. What is asked for in a time does not either: whoever sends one task after the other asks for more
    than each of a hundred bulk senders that share a broker. But it has one under way, and each of them has as
    many as it may.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._until = 0.0
        self._costs: dict[Hashable, int] = {}
        self._now, self._before = _Most(), _Most()

    def __len__(self) -> int:
        """How many callers have something."""
        return len(self._costs)

    def begin(self, caller: Hashable, cost: int) -> int:
        """Add a cost, of at least 1; return what the caller has under way with it."""
        now = self._clock()
        if now >= self._until:
            self._turn(now)
        mine = self._costs[caller] = self._costs.get(caller, 0) + cost
        self._now.note(caller, mine)
        return mine

    def is_little(self, caller: Hashable) -> bool:
        """Return True if the most that a caller had is at most a quarter of what the caller of a typical item
        had. That is the mean over all items, not over all callers, most of whom may have next to nothing."""
        now, before = self._now, self._before
        mine = max(now.of(caller), before.of(caller))
        return mine * _LITTLE_OF_TYPICAL * (now.total + before.total) <= now.squares + before.squares

    def end(self, caller: Hashable, cost: int) -> None:
        """Take off what `begin` added."""
        left = self._costs[caller] - cost
        if left > 0:
            self._costs[caller] = left
        else:
            del self._costs[caller]

    def clear(self) -> None:
        """Forget what is under way."""
        self._costs.clear()

    def _turn(self, now: float) -> None:
        recent = now < self._until + _LATELY_S
        self._before, self._now = (self._now if recent else _Most()), _Most()
        for caller, cost in self._costs.items():
            self._now.note(caller, cost)
        self._until = now + _LATELY_S


class _Most:
    """The most that each caller had under way in a time, their sum, and the sum of their squares."""

    def __init__(self) -> None:
        self._of: dict[Hashable, int] = {}
        self.total = 0
        self.squares = 0

    def of(self, caller: Hashable) -> int:
        """The most that a caller had."""
        return self._of.get(caller, 0)

    def note(self, caller: Hashable, cost: int) -> None:
        """Note what a caller has."""
        most = self._of.get(caller, 0)
        if cost > most:
            self._of[caller] = cost
            self.total += cost - most
            self.squares += cost * cost - most * most


@dataclass(slots=True, eq=False)
class Permit:
    """The permission to work on a request; its holder calls `leave` once."""

    cost: int
    leave: Callable[[], None]
    has_little: bool
    """Its caller had little under way when it asked, and a place in the reserve."""


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

    def __init__(self, budget: int, request_cost: int = 0, *, has_reserve: bool = True) -> None:
        """The reserve is as large as the budget. `request_cost`: of a request as such, beside what it asks
        for."""
        self._request_cost = request_cost
        self._has_reserve = has_reserve
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
        mine = self._under_way.begin(caller, cost)
        has_little = self._has_reserve and self._under_way.is_little(caller)
        room = self._reserve if has_little else self._budget
        request = room.ask(caller, cost, mine)
        waiting = None if request is None else self._admitted(room, caller, request)
        return Permit(cost, partial(self._leave, room, caller, cost), has_little), waiting

    async def _admitted(self, room: _Room, caller: Hashable, request: _Request) -> None:
        try:
            await room.admitted(request)
        except asyncio.CancelledError:
            self._under_way.end(caller, request.cost)
            raise

    def _leave(self, room: _Room, caller: Hashable, cost: int) -> None:
        self._under_way.end(caller, cost)
        room.leave(cost)
