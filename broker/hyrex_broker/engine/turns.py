"""Whose turn it is: which lanes have work, and how free capacity is shared among them.

Pure planning, no I/O. Strict by priority, fair among lanes of one priority; a lane that a statement
found empty is not read again until something wakes it.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Final

from hyrex_broker.domain.model import LaneId, SessionId
from hyrex_broker.engine.session import Session, Shape
from hyrex_broker.storage.assign import AssignResult, LaneQuota

ZERO: Final = datetime(1970, 1, 1, tzinfo=UTC)
MARK_LAG: Final = timedelta(seconds=3)
"""No statement that inserts ready rows may take longer (rule 11)."""
MOST_RUNS: Final = 1000


@dataclass(slots=True)
class Turns:
    """The lanes with work, as far as this broker knows, and the low-water mark of each (lane, rank)."""

    active: dict[LaneId, set[int]] = field(default_factory=dict)
    _marks: dict[tuple[LaneId, int], datetime] = field(default_factory=dict)
    _woken: set[tuple[LaneId, int]] = field(default_factory=set)
    _parked: dict[LaneId, set[int]] = field(default_factory=dict)
    _freed: set[LaneId] = field(default_factory=set)
    _rotation: int = 0

    def wake(self, pairs: Iterable[tuple[LaneId, int]]) -> None:
        """These (lane, rank) may have work."""
        for lane, rank in pairs:
            if lane in self._parked:
                self._parked[lane].add(rank)
            else:
                self.active.setdefault(lane, set()).add(rank)
                self._woken.add((lane, rank))

    def pairs(self, lane: LaneId, ranks: Iterable[int]) -> list[tuple[int, datetime]]:
        """(rank, low-water mark) of a lane."""
        return [(rank, self._marks.get((lane, rank), ZERO)) for rank in ranks]

    def marked(self) -> list[tuple[LaneId, int, datetime]]:
        """(lane, rank, low-water mark) of all that have been read."""
        return [(lane, rank, mark) for (lane, rank), mark in self._marks.items()]

    def lower(self, lane: LaneId, rank: int, arrival: datetime) -> None:
        """A row stands below the mark: it was left there by a statement that failed."""
        self._marks[lane, rank] = min(self._marks.get((lane, rank), arrival), arrival)
        self.wake({(lane, rank)})

    def read_empty(self, pairs: Iterable[tuple[LaneId, int]], at: datetime) -> None:
        """Nothing was ready there at that time of the database: nothing will be below it, less the lag."""
        for pair in pairs:
            self._marks[pair] = max(self._marks.get(pair, ZERO), at - MARK_LAG)

    def served(self, shapes: Iterable[Shape]) -> set[LaneId]:
        """Lanes with work that some session here may run: the others may be many, and cost nothing."""
        found: set[LaneId] = set()
        for shape in shapes:
            found.update(self.active.keys() & shape.lanes.keys())
        return found

    def plan(self, shapes: Sequence[Shape], readable: Callable[[LaneId], bool]) -> list[LaneQuota]:
        """Share the free capacity of all sessions among the lanes that have work for them."""
        self._woken.clear()
        self._freed.clear()
        room = Room(shapes)
        quotas: list[LaneQuota] = []
        for rank, group in self._by_best_rank(shapes, readable):
            lanes = [lane for lane in group if room.has(lane)]
            for position, lane in enumerate(lanes):
                slots = room.take(lane, len(lanes) - position, MOST_RUNS - sum(len(q.slots) for q in quotas))
                if slots:
                    ranks = sorted(self.active[lane]) if len(self.active) == 1 else [rank]
                    quotas.append(LaneQuota(lane, self.pairs(lane, ranks), slots))
        return quotas

    def _by_best_rank(
        self, shapes: Sequence[Shape], readable: Callable[[LaneId], bool]
    ) -> list[tuple[int, list[LaneId]]]:
        groups: dict[int, list[LaneId]] = {}
        for lane in sorted(self.served(shapes)):
            if readable(lane):
                groups.setdefault(min(self.active[lane]), []).append(lane)
        self._rotation += 1
        ordered = []
        for rank in sorted(groups):
            lanes = groups[rank]
            turn = self._rotation % len(lanes)
            ordered.append((rank, lanes[turn:] + lanes[:turn]))
        return ordered

    def learn(self, quotas: Sequence[LaneQuota], result: AssignResult) -> None:
        """What an assign found tells which lanes are empty, and how far the others were read."""
        counts: dict[LaneId, int] = {}
        last: dict[tuple[LaneId, int], datetime] = {}
        for taken in result.taken:
            counts[taken.lane] = counts.get(taken.lane, 0) + 1
            pair = (taken.lane, taken.run.rank)
            last[pair] = max(last.get(pair, taken.arrival), taken.arrival)
        if result.taken_at is not None:
            for pair, arrival in last.items():
                self._marks[pair] = min(arrival, result.taken_at - MARK_LAG)
        for quota in quotas:
            asked = result.allowed.get(quota.lane, 0) if result.allowed is not None else len(quota.slots)
            if asked < len(quota.slots) and counts.get(quota.lane, 0) == asked:
                self._park(quota)
            elif counts.get(quota.lane, 0) < asked:
                self._emptied(quota, result.taken_at)

    def unpark(self, lanes: Iterable[LaneId]) -> None:
        """A limit has room again: these lanes may be read."""
        for lane in lanes:
            self._freed.add(lane)
            ranks = self._parked.pop(lane, None)
            if ranks:
                self.wake((lane, rank) for rank in ranks)

    def _park(self, quota: LaneQuota) -> None:
        """The lane's limit is reached: it is not read until a lease of it ends."""
        if quota.lane not in self._freed:
            self._parked.setdefault(quota.lane, set()).update(self.active.pop(quota.lane, set()))

    def _emptied(self, quota: LaneQuota, at: datetime | None) -> None:
        ranks = self.active.get(quota.lane)
        if ranks is None:
            return
        empty = [rank for rank, _ in quota.pairs if (quota.lane, rank) not in self._woken]
        ranks.difference_update(empty)
        if at is not None:
            self.read_empty(((quota.lane, rank) for rank in empty), at)
        if not ranks:
            del self.active[quota.lane]


@dataclass(slots=True)
class Offer:
    """What one session would still take of one pool."""

    session: Session
    free: int


class Room:
    """Free capacity by (shape, pool), handed out to sessions in turn."""

    def __init__(self, shapes: Sequence[Shape]) -> None:
        self._shapes = shapes
        self._offers: dict[tuple[int, str], list[Offer]] = {}

    def _offers_of(self, index: int, pool: str) -> list[Offer]:
        key = (index, pool)
        if key not in self._offers:
            sessions = self._shapes[index].sessions.values()
            self._offers[key] = [Offer(session, n) for session in sessions if (n := session.free(pool)) > 0]
        return self._offers[key]

    def has(self, lane: LaneId) -> bool:
        """Whether any session would take a run of this lane."""
        return any(offer.free for offer in self._offers_for(lane))

    def _offers_for(self, lane: LaneId) -> list[Offer]:
        offers: list[Offer] = []
        for index, shape in enumerate(self._shapes):
            pool = shape.lanes.get(lane)
            if pool is not None:
                offers += self._offers_of(index, pool)
        return offers

    def take(self, lane: LaneId, sharers: int, most: int) -> list[SessionId]:
        """Slots for one lane: its share of what its sessions have free, spread over them evenly."""
        offers = self._offers_for(lane)
        free = sum(offer.free for offer in offers)
        return _deal(offers, min(-(-free // sharers), most)) if free > 0 else []


def _deal(offers: list[Offer], count: int) -> list[SessionId]:
    """Deal slots like cards, so that few runs spread over many sessions, the freest first."""
    slots: list[SessionId] = []
    hands = sorted((offer for offer in offers if offer.free), key=lambda offer: -offer.free)
    while hands and len(slots) < count:
        for offer in hands[: count - len(slots)]:
            offer.free -= 1
            slots.append(offer.session.session_id)
        hands = [offer for offer in hands if offer.free]
    return slots
