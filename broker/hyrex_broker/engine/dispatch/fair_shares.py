"""Deals the slots of one turn to the lanes of a family (rule 33): the next one to the bucket with the fewest
leases.

Counted are the leases of this broker's sessions: each broker deals fairly what its workers have free. Buckets
with as many leases take turns, also where a run ends before the next one begins.
"""

from collections.abc import Iterable, Mapping, Sequence
from heapq import heapify, heapreplace

from hyrex_broker.domain.model import LaneId, SessionId
from hyrex_broker.engine.lane_families import LaneFamily


class FairShares:
    """Knows how many leases each bucket has, and when each lane was last served."""

    def __init__(self, leases: Mapping[LaneId, int]) -> None:
        """`leases`: how many each lane of a family has here, now."""
        self._leases = leases
        self._served: dict[LaneId, int] = {}
        self._turn = 0

    def served(self, lane: LaneId) -> None:
        """Note that a lane has got runs: it is the last one among equals now."""
        self._turn += 1
        self._served[lane] = self._turn

    def forget(self, lane: LaneId) -> None:
        """Forget a lane that is gone."""
        self._served.pop(lane, None)

    def last_served(self, lane: LaneId) -> int:
        """A number that is the higher the later it has got runs; 0 if it never has."""
        return self._served.get(lane, 0)

    def deal(
        self, family: LaneFamily, waiting: Iterable[LaneId], slots: Sequence[SessionId]
    ) -> dict[LaneId, list[SessionId]]:
        """The slots of each of the waiting lanes; who gets the first one comes first."""
        of_bucket: dict[int, list[LaneId]] = {}
        for lane in sorted(waiting, key=self.last_served):
            of_bucket.setdefault(family.buckets[lane], []).append(lane)
        if len(of_bucket) == 1:
            (lanes,) = of_bucket.values()
            return {
                lane: list(slots[place :: len(lanes)]) for place, lane in enumerate(lanes) if slots[place:]
            }
        held = dict.fromkeys(of_bucket, 0)
        for lane, bucket in family.buckets.items():
            if bucket in held:
                held[bucket] += self._leases.get(lane, 0)
        # Of equals the one that was served longest ago, then whoever has not got another one of these slots.
        heap = [(count, place, bucket) for place, (bucket, count) in enumerate(held.items())]
        heapify(heap)
        dealt: dict[LaneId, list[SessionId]] = {}
        for slot in slots:
            count, place, bucket = heap[0]
            lanes = of_bucket[bucket]
            lane = lanes[count % len(lanes)]
            dealt.setdefault(lane, []).append(slot)
            heapreplace(heap, (count + 1, place, bucket))
        return dealt
