"""Shares free capacity among lanes: how much each lane may take, and from which sessions.

Free slots are filled before anything is sent to a worker to wait there.
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from heapq import heapify, heappop, heappush

from hyrex_broker.domain.model import SessionId
from hyrex_broker.engine.dispatch.rotation import Audience
from hyrex_broker.engine.sessions.session import ServedSession, WorkerProfile


@dataclass(slots=True, eq=False)
class FreeSession:
    """What one session would still take in one pool."""

    session: ServedSession
    free: int
    slots: int
    """How many of `free` would begin at once; negative if runs wait there already."""

    def give(self, count: int = 1) -> None:
        """Take places of this session."""
        self.free -= count
        self.slots -= count

    @property
    def rank(self) -> tuple[int, int]:
        """The sort key, where higher is freer: free slots, then places to wait."""
        return max(self.slots, 0), self.free


class FreePool:
    """What the sessions of one profile would take in one pool, the freest session first."""

    def __init__(self, sessions: Iterable[ServedSession], pool: str) -> None:
        found = ((session, session.free(pool)) for session in sessions)
        self.all = [
            FreeSession(session, free, free - session.beyond_slots(pool))
            for session, free in found
            if free > 0
        ]
        self.free = sum(one.free for one in self.all)
        self._heap: list[tuple[int, int, int, FreeSession]] | None = None

    def _by_rank(self) -> list[tuple[int, int, int, FreeSession]]:
        if self._heap is None:
            self._heap = [_entry(place, one) for place, one in enumerate(self.all)]
            heapify(self._heap)
        return self._heap

    def freest(self) -> tuple[int, int]:
        """The rank of the freest session."""
        heap = self._by_rank()
        while heap and (-heap[0][0], -heap[0][1]) != heap[0][3].rank:
            _, _, place, one = heappop(heap)
            if one.free:
                heappush(heap, _entry(place, one))
        return (-heap[0][0], -heap[0][1]) if heap else (0, 0)

    def take(self) -> tuple[int, FreeSession]:
        """Take the freest session out, until it is put back. Call `freest` before."""
        _, _, place, one = heappop(self._by_rank())
        return place, one

    def put(self, place: int, one: FreeSession) -> None:
        """Put a session back."""
        if one.free:
            heappush(self._by_rank(), _entry(place, one))


def _entry(place: int, one: FreeSession) -> tuple[int, int, int, FreeSession]:
    slots, free = one.rank
    return -slots, -free, place, one


class FreeCapacity:
    """Free capacity by (profile, pool). `profiles` are by their numbers, as in audiences."""

    def __init__(self, profiles: "dict[int, WorkerProfile]") -> None:
        self._profiles = profiles
        self._pools: dict[tuple[int, str], FreePool] = {}
        self._sharers: dict[tuple[int, str], int] = defaultdict(int)

    def _of(self, audience: Audience) -> list[FreePool]:
        found = []
        for pair in audience:
            if pair not in self._pools:
                number, pool = pair
                self._pools[pair] = FreePool(self._profiles[number].sessions.values(), pool)
            found.append(self._pools[pair])
        return found

    def free(self, audience: Audience) -> int:
        """How many runs the sessions of an audience would take."""
        return sum(pools.free for pools in self._of(audience))

    def expect(self, audience: Audience, lanes: int) -> None:
        """Note that so many lanes will share the capacity of this audience."""
        for pair in audience:
            self._sharers[pair] += lanes

    def at_once(self, audience: Audience) -> int:
        """How many runs the sessions of an audience would begin at once."""
        return sum(max(one.slots, 0) for pool in self._of(audience) for one in pool.all)

    def take(self, audience: Audience, most: int, *, at_once: bool = False) -> list[SessionId]:
        """Take slots for one of the expected lanes: its share of the free capacity, spread over sessions.
        `at_once`: only such in which a run would begin at once."""
        pools = self._of(audience)
        free = sum(each.free for each in pools)
        if at_once:
            most = min(most, self.at_once(audience))
        sharers = max((self._sharers[pair] for pair in audience), default=1)
        self.expect(audience, -1)
        count = min(-(-free // max(sharers, 1)), most)
        return _spread(pools, count) if count > 0 else []


def _spread(pools: Sequence[FreePool], count: int) -> list[SessionId]:
    """Take `count` slots in rounds, one of each session, the freest first, so that runs spread evenly."""
    if len(pools) == len(pools[0].all) == 1:
        (one,) = pools[0].all
        one.give(count)
        pools[0].free -= count
        return [one.session.session_id] * count
    if count < sum(len(each.all) for each in pools):
        return _spread_few(pools, count)
    slots: list[SessionId] = []
    having = sorted(
        ((each, one) for each in pools for one in each.all if one.free),
        key=lambda pair: pair[1].rank,
        reverse=True,
    )
    for to_wait in (False, True):
        while len(slots) < count:
            having = [pair for pair in having if pair[1].free]
            round_of = [pair for pair in having if to_wait or pair[1].slots > 0][: count - len(slots)]
            if not round_of:
                break
            rounds = _rounds(round_of, count - len(slots), to_wait=to_wait)
            for each, one in round_of:
                one.give(rounds)
                each.free -= rounds
            slots += [one.session.session_id for _, one in round_of] * rounds
    return slots


def _rounds(round_of: Sequence[tuple[FreePool, FreeSession]], left: int, *, to_wait: bool) -> int:
    """How many rounds are like this one."""
    places = [one.free if to_wait else min(one.free, one.slots) for _, one in round_of]
    return max(min(*places, left // len(round_of)), 1)


def _spread_few(pools: Sequence[FreePool], count: int) -> list[SessionId]:
    """As `_spread`, for fewer slots than sessions: looks at the freest sessions only, not at all of them."""
    slots: list[SessionId] = []
    while len(slots) < count:
        taken: list[tuple[FreePool, int, FreeSession]] = []
        while len(slots) < count:
            each = max(pools, key=FreePool.freest)
            free_slots, free = each.freest()
            if not free or (not free_slots and any(one.slots > 0 for _, _, one in taken[:1])):
                break  # a second round first: a free slot of a session counts more than a place to wait
            place, one = each.take()
            one.give()
            each.free -= 1
            slots.append(one.session.session_id)
            taken.append((each, place, one))
        for each, place, one in taken:
            each.put(place, one)
        if not taken:
            break
    return slots
