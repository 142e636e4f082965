"""The lanes of a queue and a task name that has several: the plain one, one for tasks whose ends are
followed, and those that share fairly. They have one turn, which is that of their head."""

from collections.abc import Collection, Iterator
from dataclasses import dataclass, field

from hyrex_broker.domain.model import LaneId
from hyrex_broker.storage.lanes import Lane


@dataclass(frozen=True, slots=True)
class LaneFamily:
    """Lanes of one queue and task name, as far as this broker has met them."""

    head: LaneId
    """The one that was met first: it stands for all."""
    buckets: dict[LaneId, int] = field(default_factory=dict)
    """The bucket of each lane."""

    def __iter__(self) -> Iterator[LaneId]:
        return iter(self.buckets)


class LaneFamilies(dict[LaneId, LaneFamily]):
    """The family of each lane that has one; a plain lane that is alone has none."""

    def __init__(self) -> None:
        super().__init__()
        self._by_name: dict[tuple[str, str], LaneFamily] = {}
        self.heads: dict[LaneId, LaneId] = {}
        """The head of each lane that is none itself."""

    def add(self, lane: Lane, plain: LaneId | None) -> None:
        """Note a lane that was met; `plain`: the plain one of its queue and name, if that is known."""
        name = lane.queue, lane.name
        family = self._by_name.get(name)
        if family is None:
            if not (lane.followed or lane.bucket):
                return
            family = self._by_name[name] = LaneFamily(lane.lane_id if plain is None else plain)
            if plain is not None:
                self._join(family, plain, 0)
        self._join(family, lane.lane_id, lane.bucket)

    def forget(self, lanes: Collection[LaneId]) -> set[LaneId]:
        """Forget the families of which all lanes are gone. Return those that are gone but stay known, since
        another lane of their family is stored."""
        gone = set(lanes)
        kept = {lane for lane in gone if lane in self and not self[lane].buckets.keys() <= gone}
        over = {self[lane].head for lane in gone - kept if lane in self}
        if over:
            self._by_name = {name: each for name, each in self._by_name.items() if each.head not in over}
        for lane in gone - kept:
            self.pop(lane, None)
            self.heads.pop(lane, None)
        return kept

    def _join(self, family: LaneFamily, lane: LaneId, bucket: int) -> None:
        family.buckets[lane] = bucket
        self[lane] = family
        if lane != family.head:
            self.heads[lane] = family.head
