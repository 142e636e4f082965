"""Active lanes in the order of their turns, grouped by who may run them.

Lanes with the same *audience* (the profiles and pools that serve them) are one group: if an audience has
nothing free, all of its lanes are passed over in one step, however many they are. The cost of a change (a
lane is woken, a profile is added, grows or is removed) grows only with the lanes concerned.
"""

from collections import OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

from hyrex_broker.domain.model import LaneId
from hyrex_broker.engine.sessions.session import WorkerProfile

Audience: TypeAlias = tuple[tuple[int, str], ...]
"""(number of a profile, pool), in order; empty where nobody here serves a lane."""
Lanes: TypeAlias = "OrderedDict[LaneId, int]"
"""Lanes with their turns, the lowest first."""


@dataclass(slots=True)
class _Seen:
    """A profile as it was at the last `sync`."""

    profile: WorkerProfile
    number: int
    lanes: int


@dataclass(slots=True)
class Rotation:
    """The turns of active lanes, each at its best rank."""

    _groups: dict[int, dict[Audience, Lanes]] = field(default_factory=dict)
    _places: dict[LaneId, tuple[int, Audience]] = field(default_factory=dict)
    _seen: dict[int, _Seen] = field(default_factory=dict)
    _turn: int = 0
    _profiles: int = 0

    def put(self, lane: LaneId, rank: int) -> None:
        """Add a lane that has work, with its best rank. If it is there with this rank, it keeps its turn."""
        place = self._places.get(lane)
        if place is None:
            self._place(lane, rank, self.audience(lane))
        elif place[0] != rank:
            self.remove(lane)
            self._place(lane, rank, place[1])

    def rank(self, lane: LaneId, otherwise: int) -> int:
        """The rank at which a lane has its turn."""
        place = self._places.get(lane)
        return otherwise if place is None else place[0]

    def remove(self, lane: LaneId) -> None:
        """Remove a lane, which has no work."""
        place = self._places.pop(lane, None)
        if place is not None:
            rank, audience = place
            group = self._groups[rank][audience]
            del group[lane]
            if not group:
                del self._groups[rank][audience]
            if not self._groups[rank]:
                del self._groups[rank]

    def served(self, lane: LaneId) -> None:
        """Put a lane that was served behind all others."""
        rank, audience = self._places[lane]
        group = self._groups[rank][audience]
        group.move_to_end(lane)
        group[lane] = self._next_turn()

    @property
    def is_empty(self) -> bool:
        """True if no lane has work."""
        return not self._places

    def ranks(self) -> list[int]:
        """The ranks that have lanes, the best first."""
        return sorted(self._groups)

    def groups(self, rank: int) -> list[tuple[Audience, Lanes]]:
        """The lanes of a rank that somebody here serves."""
        return [(audience, lanes) for audience, lanes in self._groups.get(rank, {}).items() if audience]

    def lanes(self) -> Iterator[LaneId]:
        """All lanes with work that somebody here serves."""
        for groups in self._groups.values():
            for audience, lanes in groups.items():
                if audience:
                    yield from lanes

    def sync(self, profiles: Sequence[WorkerProfile]) -> dict[int, WorkerProfile]:
        """Adapt to profiles that were added, have grown or are gone; return the profiles by number."""
        seen = self._seen
        if len(seen) != len(profiles) or any(id(profile) not in seen for profile in profiles):
            self._drop({id(profile) for profile in profiles})
        for profile in profiles:
            known = seen.get(id(profile))
            if known is None:
                self._profiles += 1
                known = seen[id(profile)] = _Seen(profile, self._profiles, 0)
            if known.lanes != len(profile.lanes):
                self._reach(known)
        return {known.number: known.profile for known in seen.values()}

    def profiles_shrank(self) -> None:
        """Look through the profiles anew at the next `sync`: by their size alone they may seem unchanged."""
        for known in self._seen.values():
            known.lanes = -1

    def _drop(self, here: set[int]) -> None:
        gone = {self._seen.pop(key).number for key in self._seen.keys() - here}
        if not gone:
            return
        for lane, (_, audience) in list(self._places.items()):
            left = tuple(pair for pair in audience if pair[0] not in gone)
            if len(left) != len(audience):
                self._regroup(lane, left)

    def _reach(self, known: _Seen) -> None:
        """Regroup the lanes that a profile serves and did not serve at the last `sync`."""
        known.lanes = len(known.profile.lanes)
        for lane in self._places.keys() & known.profile.lanes.keys():
            audience = self.audience(lane)
            if audience != self._places[lane][1]:
                self._regroup(lane, audience)

    def _regroup(self, lane: LaneId, audience: Audience) -> None:
        rank = self._places[lane][0]
        self.remove(lane)
        self._place(lane, rank, audience)

    def audience(self, lane: LaneId) -> Audience:
        """The profiles that serve a lane, of those given to the last `sync`, with their pools."""
        return tuple(
            (known.number, pool)
            for known in self._seen.values()
            if (pool := known.profile.lanes.get(lane)) is not None
        )

    def _place(self, lane: LaneId, rank: int, audience: Audience) -> None:
        self._places[lane] = rank, audience
        self._groups.setdefault(rank, {}).setdefault(audience, OrderedDict())[lane] = self._next_turn()

    def _next_turn(self) -> int:
        self._turn += 1
        return self._turn
