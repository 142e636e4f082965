"""What a broker counts of its work since it began, as plain integers, for metrics and statistics.

Whoever counts does so once for each batch, lane and outcome, whether or not anybody reads it: that costs less
than a microsecond a batch. Readers in other threads copy what they read (`dict(...)`).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, TypeVar

from hyrex.runtime.histogram import ITEM_BOUNDS, RUN_BOUNDS_US, STATEMENT_BOUNDS_US, Histogram
from hyrex_broker.domain.model import LaneId, Outcome

MOST_LANES: Final = 1000
"""So many lanes are counted by themselves; what comes later counts as OTHER, so that callers who invent
queues can make neither this nor a scrape large."""
OTHER: Final = LaneId(0)

Key = TypeVar("Key")
ByLane = dict[LaneId, int]
ByOutcome = dict[tuple[LaneId, Outcome], int]


@dataclass(frozen=True, slots=True)
class Acknowledged:
    """Of all lanes."""

    sends: int = 0
    ends: int = 0
    """Of runs."""

    def __add__(self, other: "Acknowledged") -> "Acknowledged":
        return Acknowledged(self.sends + other.sends, self.ends + other.ends)


@dataclass(slots=True)
class Counters:
    """Of one broker process. Lanes are those of `Directory.names`, or OTHER."""

    submitted: ByLane = field(default_factory=dict)
    """Tasks stored for the first time."""
    handed_off: ByLane = field(default_factory=dict)
    """Those of them that went to a worker in the same statement."""
    ended: ByOutcome = field(default_factory=dict)
    """Tasks that ended for good."""
    runs: ByOutcome = field(default_factory=dict)
    queue_wait: dict[LaneId, Histogram] = field(default_factory=dict)
    """Microseconds from becoming ready to the lease."""
    run_time: dict[LaneId, Histogram] = field(default_factory=dict)
    """Microseconds, as workers measure them."""
    limit_waits: ByLane = field(default_factory=dict)
    """How often a limit left runs of a lane waiting although a worker was free."""
    held_back: dict[str, int] = field(default_factory=dict)
    """Rows of the outbox that had to wait, by the reason."""
    statements: dict[str, Histogram] = field(default_factory=dict)
    """Microseconds from the request to Postgres to its answer, by the statement's name."""
    merges: dict[str, Histogram] = field(default_factory=dict)
    """Items of each batch, by what is batched."""
    _lanes: set[LaneId] = field(default_factory=set)
    heads: Mapping[LaneId, LaneId] = field(default_factory=dict)
    """Lanes for which others stand: what shares queue and name is counted together."""

    def acknowledged(self) -> Acknowledged:
        """What was stored of tasks and of ends of runs."""
        return Acknowledged(sum(self.submitted.values()), sum(self.runs.values()))

    @property
    def lanes(self) -> frozenset[LaneId]:
        """Those that are counted by themselves: their names are shown as long as this broker runs."""
        return frozenset(self._lanes)

    def stored(self, lanes: Mapping[LaneId, int]) -> None:
        """Count submitted tasks, by lane."""
        for lane, count in lanes.items():
            _add(self.submitted, self._known(lane), count)

    def handed(self, lane: LaneId, count: int) -> None:
        """Count tasks that went straight to a worker: they waited for nobody."""
        lane = self._known(lane)
        _add(self.handed_off, lane, count)
        self._waits(lane).add(0, count)

    def taken(self, lane: LaneId, count: int, wait_us: int) -> None:
        """Count runs that were assigned after they had waited as long."""
        self._waits(self._known(lane)).add(max(wait_us, 0), count)

    def returned(self, lane: LaneId, count: int, elapsed_us: Sequence[int]) -> None:
        """Count runs that completed; `elapsed_us` is a column (`domain.ended`)."""
        lane = self._known(lane)
        _add(self.runs, (lane, Outcome.COMPLETED), count)
        _add(self.ended, (lane, Outcome.COMPLETED), count)
        self._times(lane).add_column(elapsed_us, count)

    def run_ended(self, lane: LaneId, outcome: Outcome, *, final: bool) -> None:
        """Count a run that ended in any way; `final` if its task ended with it."""
        lane = self._known(lane)
        _add(self.runs, (lane, outcome), 1)
        if final:
            _add(self.ended, (lane, outcome), 1)

    def ran(self, lane: LaneId, elapsed_us: int) -> None:
        """Count how long a run took that did not complete."""
        self._times(self._known(lane)).add(elapsed_us)

    def cancelled(self, lanes: Mapping[LaneId, int]) -> None:
        """Count tasks that were cancelled before they ran."""
        for lane, count in lanes.items():
            _add(self.ended, (self._known(lane), Outcome.CANCELLED), count)

    def limited(self, lane: LaneId) -> None:
        """Count that a limit left runs of this lane waiting."""
        _add(self.limit_waits, self._known(lane), 1)

    def held(self, why: str, count: int) -> None:
        """Count rows of the outbox of which no task could be made now."""
        _add(self.held_back, why, count)

    def statement(self, name: str, elapsed_s: float) -> None:
        """Count one statement."""
        found = self.statements.get(name)
        if found is None:
            found = self.statements[name] = Histogram(STATEMENT_BOUNDS_US)
        found.add(int(elapsed_s * 1_000_000))

    def merged(self, name: str) -> Histogram:
        """The sizes of the batches of this name, to be counted by whoever makes them."""
        return self.merges.setdefault(name, Histogram(ITEM_BOUNDS))

    def _known(self, lane: LaneId) -> LaneId:
        if lane in self.heads:
            lane = self.heads[lane]
        if lane in self._lanes:
            return lane
        if len(self._lanes) >= MOST_LANES:
            return OTHER
        self._lanes.add(lane)
        return lane

    def _waits(self, lane: LaneId) -> Histogram:
        return _histogram(self.queue_wait, lane)

    def _times(self, lane: LaneId) -> Histogram:
        return _histogram(self.run_time, lane)


def _add(counts: dict[Key, int], key: Key, count: int) -> None:
    counts[key] = counts.get(key, 0) + count


def _histogram(known: dict[LaneId, Histogram], lane: LaneId) -> Histogram:
    found = known.get(lane)
    if found is None:
        found = known[lane] = Histogram(RUN_BOUNDS_US)
    return found
