"""Plans which lanes are served next: which have work, and how they share the free capacity.

No I/O here. Higher priorities go strictly first. Among lanes of one priority, none has more than its share
of a plan, and the next plan begins with the lane after the last one served. A lane that a statement found
empty is not read again until something wakes it. The cost of a plan grows with what it takes, not with what
waits.
"""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from heapq import merge
from typing import Final

from hyrex_broker.domain.model import HIGHEST_PRIORITY, LaneId, SessionId
from hyrex_broker.engine.dispatch.fair_shares import FairShares
from hyrex_broker.engine.dispatch.free_capacity import FreeCapacity
from hyrex_broker.engine.dispatch.rotation import Audience, Lanes, Rotation
from hyrex_broker.engine.lane_families import LaneFamilies, LaneFamily
from hyrex_broker.engine.sessions.session import WorkerProfile
from hyrex_broker.storage.assign import AssignResult, LaneQuota
from hyrex_broker.storage.marks import Mark
from hyrex_broker.storage.settings import LONGEST_STATEMENT

ZERO: Final = datetime(1970, 1, 1, tzinfo=UTC)
MOST_RUNS: Final = 1000


@dataclass(slots=True)
class LaneSchedule:
    """The lanes with work, as far as this broker knows, and the low-water mark of each (lane, rank)."""

    families: LaneFamilies = field(default_factory=LaneFamilies)
    """Lanes that have one turn together."""
    shares: FairShares = field(default_factory=lambda: FairShares({}))
    active: dict[LaneId, set[int]] = field(default_factory=dict)
    _marks: dict[tuple[LaneId, int], datetime] = field(default_factory=dict)
    _woken: set[tuple[LaneId, int]] = field(default_factory=set)
    _parked: dict[LaneId, set[int]] = field(default_factory=dict)
    _freed: set[LaneId] = field(default_factory=set)
    _rotation: Rotation = field(default_factory=Rotation)
    _aside: set[LaneId] = field(default_factory=set)
    _taken: dict[tuple[LaneId, int], int] = field(default_factory=dict)
    rated: frozenset[LaneId] = frozenset()
    """Lanes with a rate: a run that waits in a worker begins at any time, so they take free slots only."""
    waiting: set[LaneId] = field(default_factory=set)
    """Parked lanes that wait for a token, whatever ends"""

    def sizes(self) -> dict[str, int]:
        """How much is here now, for the printed state (SIGUSR1)."""
        return {
            "lanes with work": len(self.active),
            "parked lanes": len(self._parked),
            "waiting for a token": len(self.waiting),
            "marks": len(self._marks),
        }

    def wake(self, pairs: Iterable[tuple[LaneId, int]]) -> None:
        """Note that these (lane, rank) pairs may have work."""
        for lane, rank in pairs:
            if lane in self._parked:
                self._parked[lane].add(rank)
            else:
                ranks = self.active.setdefault(lane, set())
                ranks.add(rank)
                self._woken.add((lane, rank))
                head, best = lane, min(ranks)
                if lane in self.families:
                    head = self.families[lane].head
                    best = min(best, self._rotation.rank(head, best))
                if head not in self._aside:
                    self._rotation.put(head, best)

    def pairs(self, lane: LaneId, ranks: Iterable[int]) -> list[tuple[int, datetime]]:
        """The (rank, low-water mark) pairs of a lane."""
        return [(rank, self._marks.get((lane, rank), ZERO)) for rank in ranks]

    def marked(self) -> list[tuple[LaneId, int, datetime]]:
        """The (lane, rank, low-water mark) of every lane and rank that has been read."""
        return [(lane, rank, mark) for (lane, rank), mark in self._marks.items()]

    def recall(self, marks: Iterable[Mark]) -> None:
        """Take over marks that an earlier broker has stored."""
        for mark in marks:
            pair = (mark.lane, mark.rank)
            self._marks[pair] = max(self._marks.get(pair, ZERO), mark.at)

    def to_keep(self, after: int) -> list[Mark]:
        """The marks to store for later brokers: `after` rows or more were taken since they were stored."""
        pairs = [pair for pair, count in self._taken.items() if count >= after]
        for pair in pairs:
            del self._taken[pair]
        return [Mark(*pair, self._marks[pair]) for pair in pairs if pair in self._marks]

    def lower(self, lane: LaneId, rank: int, arrival: datetime) -> None:
        """Lower a mark: a row is below it, left there by a statement that failed."""
        self._marks[lane, rank] = min(self._marks.get((lane, rank), arrival), arrival)
        self.wake({(lane, rank)})

    def read_empty(self, pairs: Iterable[tuple[LaneId, int]], at: datetime) -> None:
        """Raise marks: nothing was ready at that time by the database's clock, so nothing will appear that is
        older than that time less the longest statement."""
        marks, mark = self._marks, at - LONGEST_STATEMENT
        for pair in pairs:
            if mark > marks.get(pair, ZERO):
                marks[pair] = mark

    def any_served(self, profiles: Sequence[WorkerProfile], readable: Callable[[LaneId], bool]) -> bool:
        """Return True if something waits that a session of this broker may run."""
        if self._rotation.is_empty:
            return False
        self._rotation.sync(profiles)
        return bool(self._first(self._rotation.lanes(), 1, readable))

    def _first(self, lanes: Iterable[LaneId], most: int, readable: Callable[[LaneId], bool]) -> list[LaneId]:
        """The first lanes that may be read, at most `most`. Unreadable lanes before them lose their turns
        until `look_again`, so that each is passed over once and not in every plan."""
        found: list[LaneId] = []
        aside: list[LaneId] = []
        for lane in lanes:
            (found if readable(lane) else aside).append(lane)
            if len(found) == most:
                break
        for lane in aside:
            self._aside.add(lane)
            self._rotation.remove(lane)
        return found

    def regroup(self, lanes: Iterable[LaneId]) -> None:
        """Have lanes that were just met share the turns of their families."""
        for lane in lanes:
            if lane in self.families.heads:
                self._rotation.remove(lane)
                self._aside.discard(lane)
                self._place(lane)

    def forget(self, lanes: Collection[LaneId]) -> None:
        """Forget lanes that are gone: they have no work, even if another broker has just told of some."""
        for lane in lanes:
            self.active.pop(lane, None)
            self._parked.pop(lane, None)
            self._rotation.remove(lane)
            self.shares.forget(lane)
            for rank in range(HIGHEST_PRIORITY):
                self._marks.pop((lane, rank), None)
                self._taken.pop((lane, rank), None)
        for known in (self.waiting, self._aside, self._freed):
            known.difference_update(lanes)
        self._rotation.profiles_shrank()

    def look_again(self) -> None:
        """Give all lanes that were unreadable their turns again: pauses or known lanes have changed."""
        aside, self._aside = self._aside, set()
        for lane in aside:
            self._place(lane)

    def plan(self, profiles: Sequence[WorkerProfile], readable: Callable[[LaneId], bool]) -> list[LaneQuota]:
        """Share the free capacity of all sessions among the lanes that have work for them."""
        self._woken.clear()
        self._freed.clear()
        room = FreeCapacity(self._rotation.sync(profiles))
        quotas: list[LaneQuota] = []
        left = MOST_RUNS
        for rank in self._rotation.ranks():
            if not left:
                break
            left = self._share(rank, room, readable, quotas, left)
        return quotas

    def _share(
        self,
        rank: int,
        room: FreeCapacity,
        readable: Callable[[LaneId], bool],
        quotas: list[LaneQuota],
        left: int,
    ) -> int:
        """Share among the lanes of one rank; return how many more runs the plan may have."""
        lanes_in_order: list[list[tuple[int, LaneId, Audience]]] = []
        for audience, lanes in self._rotation.groups(rank):
            free = room.free(audience)
            if free > 0:
                first = self._first(self._with_room(lanes, audience, room), min(free, left), readable)
                lanes_in_order.append([(lanes[lane], lane, audience) for lane in first])
                room.expect(audience, len(lanes))
        waiting = sum(map(len, lanes_in_order))
        for _, lane, audience in merge(*lanes_in_order):
            slots = room.take(audience, -(-left // waiting), at_once=lane in self.rated)
            waiting -= 1
            if slots:
                if lane in self.families:
                    quotas += self._dealt(self.families[lane], rank, slots)
                else:
                    ranks = sorted(self.active[lane]) if len(self.active) == 1 else [rank]
                    quotas.append(LaneQuota(lane, self.pairs(lane, ranks), slots))
                left -= len(slots)
                self._rotation.served(lane)
                if not left:
                    break
        return left

    def _dealt(self, family: LaneFamily, rank: int, slots: list[SessionId]) -> list[LaneQuota]:
        """What a turn takes, by the lanes that share it."""
        waiting = [lane for lane in family if rank in self.active.get(lane, ())]
        dealt = {waiting[0]: slots} if len(waiting) == 1 else self.shares.deal(family, waiting, slots)
        alone = len(self.active) == 1
        return [
            LaneQuota(lane, self.pairs(lane, sorted(self.active[lane]) if alone else [rank]), mine)
            for lane, mine in dealt.items()
        ]

    def _with_room(self, lanes: Lanes, audience: Audience, room: FreeCapacity) -> Iterable[LaneId]:
        """The lanes that free places are for: those with a rate only while slots are free."""
        if not self.rated or room.at_once(audience):
            return lanes
        return [lane for lane in lanes if lane not in self.rated]

    def reserve_slots(
        self, profiles: Sequence[WorkerProfile], counts: Mapping[LaneId, int]
    ) -> list[LaneQuota]:
        """Reserve slots for so many tasks of each lane, before which nothing waits."""
        room = FreeCapacity(self._rotation.sync(profiles))
        quotas = []
        for lane, count in counts.items():
            slots = room.take(self._rotation.audience(lane), count)
            if slots:
                quotas.append(LaneQuota(lane, self.pairs(lane, range(HIGHEST_PRIORITY)), slots))
        return quotas

    def learn(self, quotas: Sequence[LaneQuota], result: AssignResult) -> None:
        """Learn from the result of an assign which lanes are empty, and how far the others were read."""
        counts: dict[LaneId, int] = {}
        for pair, (count, arrival) in result.read.items():
            counts[pair[0]] = counts.get(pair[0], 0) + count
            self._taken[pair] = self._taken.get(pair, 0) + count
            if result.taken_at is not None:
                self._marks[pair] = min(arrival, result.taken_at - LONGEST_STATEMENT)
        for quota in quotas:
            if counts.get(quota.lane) and (result.allowed is not None or quota.lane in self.families):
                self.shares.served(quota.lane)
            asked = result.allowed.get(quota.lane, 0) if result.allowed is not None else len(quota.slots)
            waits = quota.lane in result.waits
            if (waits or asked < len(quota.slots)) and counts.get(quota.lane, 0) == asked:
                self._park(quota, for_token=waits)
            elif counts.get(quota.lane, 0) < asked:
                self._emptied(quota, result.taken_at)

    def unpark(self, lanes: Iterable[LaneId]) -> None:
        """Read these lanes again: their limit may allow more."""
        for lane in sorted(lanes, key=self.shares.last_served):
            if lane in self.waiting:
                continue
            self._freed.add(lane)
            ranks = self._parked.pop(lane, None)
            if ranks:
                self.wake((lane, rank) for rank in ranks)

    def tokens_come(self, lanes: Iterable[LaneId]) -> None:
        """Read these lanes again: their rates allow a run."""
        came = list(lanes)
        self.waiting.difference_update(came)
        self.unpark(came)

    def _park(self, quota: LaneQuota, *, for_token: bool) -> None:
        """Stop reading a lane whose limit is reached, until a lease of it ends or its token comes."""
        if for_token:
            self.waiting.add(quota.lane)
        if for_token or quota.lane not in self._freed:
            self._parked.setdefault(quota.lane, set()).update(self.active.pop(quota.lane, set()))
            self._place(quota.lane)

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
        self._place(quota.lane)

    def _place(self, lane: LaneId) -> None:
        """Give a lane, or its family, the turn that it is due by what is active."""
        if lane in self.families:
            family = self.families[lane]
            head = family.head
            best = min((min(self.active[each]) for each in family if each in self.active), default=None)
        else:
            head, best = lane, min(self.active[lane]) if lane in self.active else None
        if best is None:
            self._rotation.remove(head)
            self._aside.discard(head)
        elif head not in self._aside:
            self._rotation.put(head, best)
