"""How long the runs of a pool take, and how many leases to hold beyond its slots (prefetch).

With too few leases, slots stand idle; with too many, tasks wait here that other workers could run. Tasks
that take longer than a second are not prefetched at all.
"""

import time
from typing import Final

from hyrex.worker.shared.outcome import Ending

_AHEAD_S: Final = 0.1
_MOST_AHEAD_S: Final = (
    0.25  # whatever was asked for: what is held is shown as running, and runs elsewhere no more
)
_SLOW_S: Final = 1.0
_LEAST_LONG_S: Final = 0.25
_MOST_AHEAD: Final = 2500  # for each child: what 100 ms consume at 40 us a run
_OVERHEAD_S: Final = 20e-6  # what a run takes beside its user code
_FRESH_S: Final = 0.02
_MEMORY: Final = 0.98  # the weight of the old average, for each run that ended


class Pace:
    """A moving average of how long runs of one pool take."""

    def __init__(self) -> None:
        """Nothing is known yet."""
        self.run_s: float | None = None
        self._observed_at = 0.0

    @property
    def fresh_run_s(self) -> float | None:
        """How long runs take, if that was measured a moment ago; None if it was earlier."""
        return self.run_s if time.monotonic() - self._observed_at < _FRESH_S else None

    def mark_outdated(self) -> None:
        """Note that runs take longer than measured: the measurement is not fresh any more."""
        self._observed_at = 0.0

    def observe(self, endings: list[Ending]) -> None:
        """Learn from runs that ended."""
        times = [ending.elapsed_ns for ending in endings if ending.elapsed_ns is not None]
        self.learn(sum(times) / 1e9, len(times))

    def learn(self, total_s: float, count: int) -> None:
        """So many runs took that long together."""
        if not count:
            return
        mean_s = total_s / count + _OVERHEAD_S
        kept = 0.0 if self.run_s is None else _MEMORY**count
        self._observed_at = time.monotonic()
        self.run_s = kept * (self.run_s or 0.0) + (1 - kept) * mean_s

    @property
    def long_s(self) -> float:
        """A run that takes longer than this blocks its slot: runs waiting behind it are moved elsewhere."""
        return min(_SLOW_S, max(_LEAST_LONG_S, 2 * (self.run_s or 0.0)))

    def ahead(self, slots: int, most: int | None = None) -> int:
        """Leases to hold beyond the slots of one child; with `most` for each slot, up to that many."""
        if self.run_s is None or self.run_s > _SLOW_S:
            return 0
        if most is None:
            return min(_MOST_AHEAD, round(slots * _AHEAD_S / self.run_s))
        return min(slots * most, int(slots * _MOST_AHEAD_S / self.run_s))
