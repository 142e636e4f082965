"""Free capacity, handed out to one lane after the other: what each lane may take, and from which sessions.

Slots that are free are filled before anything is sent to a worker to wait there.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from heapq import heapify, heappop, heappush

from hyrex_broker.domain.model import SessionId
from hyrex_broker.engine.dispatch.rotation import Audience
from hyrex_broker.engine.sessions.session import ServedSession, WorkerProfile


@dataclass(slots=True, eq=False)
class FreeSession:
    """What one session would still take of one pool."""

    session: ServedSession
    free: int
    slots: int
    """How many of these would begin at once."""

    def give(self) -> None:
        """One is given out."""
        self.free -= 1
        self.slots -= 1

    @property
    def rank(self) -> tuple[int, int]:
        """The higher, the better: free slots, then what may wait."""
        return max(self.slots, 0), self.free


class FreePool:
    """What the sessions of one profile would take of one pool, the freest first."""

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
    """Free capacity by (profile, pool). `profiles` by their numbers in the audiences."""

    def __init__(self, profiles: "dict[int, WorkerProfile]") -> None:
        self._profiles = profiles
        self._pools: dict[tuple[int, str], FreePool] = {}
        self._rivals: Counter[tuple[int, str]] = Counter()

    def _of(self, audience: Audience) -> list[FreePool]:
        found = []
        for pair in audience:
            if pair not in self._pools:
                number, pool = pair
                self._pools[pair] = FreePool(self._profiles[number].sessions.values(), pool)
            found.append(self._pools[pair])
        return found

    def free(self, audience: Audience) -> int:
        """Runs that the sessions of an audience would take."""
        return sum(pools.free for pools in self._of(audience))

    def expect(self, audience: Audience, lanes: int) -> None:
        """So many lanes will share what this audience has."""
        for pair in audience:
            self._rivals[pair] += lanes

    def take(self, audience: Audience, most: int) -> list[SessionId]:
        """Slots for one of the lanes expected: its share of what its sessions have free, spread evenly."""
        pools = self._of(audience)
        free = sum(each.free for each in pools)
        sharers = max((self._rivals[pair] for pair in audience), default=1)
        self.expect(audience, -1)
        count = min(-(-free // max(sharers, 1)), most)
        return _deal(pools, count) if count > 0 else []


def _deal(pools: Sequence[FreePool], count: int) -> list[SessionId]:
    """Deal slots like cards, so that few runs spread over many sessions, the freest first."""
    if count < sum(len(each.all) for each in pools):
        return _deal_few(pools, count)
    slots: list[SessionId] = []
    hands = sorted(
        ((each, one) for each in pools for one in each.all if one.free),
        key=lambda hand: hand[1].rank,
        reverse=True,
    )
    for to_wait in (False, True):
        while len(slots) < count:
            hands = [hand for hand in hands if hand[1].free]
            dealt = [hand for hand in hands if to_wait or hand[1].slots > 0][: count - len(slots)]
            if not dealt:
                break
            for each, one in dealt:
                one.give()
                each.free -= 1
                slots.append(one.session.session_id)
    return slots


def _deal_few(pools: Sequence[FreePool], count: int) -> list[SessionId]:
    """One round or less: only the freest are looked at, not all sessions for each of many lanes."""
    slots: list[SessionId] = []
    while len(slots) < count:
        taken: list[tuple[FreePool, int, FreeSession]] = []
        while len(slots) < count:
            each = max(pools, key=FreePool.freest)
            free_slots, free = each.freest()
            if not free or (not free_slots and any(one.slots > 0 for _, _, one in taken[:1])):
                break  # a second free slot goes before a place to wait
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
