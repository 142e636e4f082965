"""How many leases to ask for: slots, plus what they consume in a tenth of a second.

A slot that waits for the next lease is lost time; a lease that waits for a slot is lost time of
somebody else's. Tasks over a second are not fetched ahead at all.
"""

from __future__ import annotations

import time
from collections.abc import Mapping

from hyrex.worker.outcome import Ending

_AHEAD_S = 0.1
_SLOW_S = 1.0
_MOST_AHEAD = 2500  # for each child: what 100 ms consume at 40 us a run
_OVERHEAD_S = 20e-6  # of a run beside its user code
_PERSISTS_S = 0.5  # shorter than runs wait before they are given back
_FRESH_S = 0.02
_MEMORY = 0.98  # weight of what was known, for each run that ended


class Pace:
    """A moving average of how long runs of one pool take."""

    def __init__(self) -> None:
        """Nothing is known."""
        self.run_s: float | None = None
        self._observed_at = 0.0

    @property
    def fresh_run_s(self) -> float | None:
        """How long runs take, if that was seen a moment ago: what was true of the last ones may not be of the
        next."""
        return self.run_s if time.monotonic() - self._observed_at < _FRESH_S else None

    def doubt(self) -> None:
        """Runs take longer than expected: what is known is not fresh any more."""
        self._observed_at = 0.0

    def observe(self, endings: list[Ending]) -> None:
        """Learn from runs that ended."""
        times = [ending.elapsed_ns for ending in endings if ending.elapsed_ns is not None]
        if not times:
            return
        mean_s = sum(times) / len(times) / 1e9 + _OVERHEAD_S
        kept = 0.0 if self.run_s is None else _MEMORY ** len(times)
        self._observed_at = time.monotonic()
        self.run_s = kept * (self.run_s or 0.0) + (1 - kept) * mean_s

    def ahead(self, slots: int) -> int:
        """Leases to hold beyond the slots of one child."""
        if self.run_s is None or self.run_s > _SLOW_S:
            return 0
        return min(_MOST_AHEAD, round(slots * _AHEAD_S / self.run_s))


class Announcements:
    """Which capacity the broker was told, and whether it should be told anew."""

    def __init__(self) -> None:
        """Nothing is announced."""
        self.told: dict[str, int] = {}
        self.wanted: dict[str, int] = {}
        self._sides: dict[str, tuple[bool, float]] = {}  # whether too much was told, and since when

    def want(self, maximum: Mapping[str, int]) -> None:
        """The capacity is this now; called again and again while it stays so."""
        self.wanted = dict(maximum)
        now = time.monotonic()
        for pool, wanted in maximum.items():
            told = self.told.get(pool, -1)
            if wanted == told:
                self._sides.pop(pool, None)
            elif self._sides.get(pool, (None, 0.0))[0] != (wanted < told):
                self._sides[pool] = wanted < told, now

    def due(self) -> bool:
        """Whether the difference is material, or small but there to stay.

        What follows the pace wavers with every run: a fifth is not worth a frame. But leases beyond
        what children take would be given back and come again, without end.
        """
        if any(_material(self.told.get(pool, -1), maximum) for pool, maximum in self.wanted.items()):
            return True
        now = time.monotonic()
        return any(now - since >= _PERSISTS_S for _, since in self._sides.values())

    def tell(self) -> dict[str, int]:
        """The capacity, as told from now on."""
        self.told = dict(self.wanted)
        self._sides.clear()
        return self.told


def _material(told: int, wanted: int) -> bool:
    if told < 0 or min(told, wanted) <= 10:
        return told != wanted
    return abs(told - wanted) > told // 5
