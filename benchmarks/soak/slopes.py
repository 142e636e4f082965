"""The arithmetic of a soak: how fast a series grows, and how its last tenth compares with its first.

A slope is the median of the slopes between all pairs of points (Theil and Sen): a few outliers, such as a
vacuum or a busy neighbour, do not move it. The beginning of a process is left out: caches fill, pools grow.
"""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations, groupby
from typing import Final

from benchmarks.soak.samples import Reading

HOUR_S: Final = 3600.0
POINTS: Final = 100
WARM_UP: Final = 0.25
"""The share of a stretch that is left out at its beginning."""

Point = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Slope:
    """How a series grows per hour, over so many seconds, from which level."""

    per_hour: float
    seconds: float
    level: float

    @property
    def grown(self) -> float:
        """By how much in these seconds."""
        return self.per_hour * self.seconds / HOUR_S


def slope(series: Sequence[tuple[float, Reading]]) -> Slope | None:
    """The slope of the longest stretch of one process, without its beginning; None for fewer than two."""
    points = _settled(_longest_stretch(series))
    if len(points) < 2:
        return None
    thinned = _thinned(points)
    pairs = [(one, other) for one, other in combinations(thinned, 2) if other[0] > one[0]]
    per_s = statistics.median((high - low) / (late - early) for (early, low), (late, high) in pairs)
    level = statistics.median(value for _, value in points)
    return Slope(per_s * HOUR_S, points[-1][0] - points[0][0], level)


def _longest_stretch(series: Sequence[tuple[float, Reading]]) -> list[Point]:
    stretches = [
        [(at, reading.value) for at, reading in group]
        for _, group in groupby(series, key=lambda each: each[1].of)
    ]
    return max(stretches, key=lambda each: each[-1][0] - each[0][0], default=[])


def _settled(points: Sequence[Point]) -> list[Point]:
    if not points:
        return []
    from_s = points[0][0] + WARM_UP * (points[-1][0] - points[0][0])
    return [point for point in points if point[0] >= from_s]


def _thinned(points: Sequence[Point]) -> list[Point]:
    """At most POINTS medians of neighbours."""
    size = max(-(-len(points) // POINTS), 1)
    groups = [points[at : at + size] for at in range(0, len(points), size)]
    return [
        (statistics.median(at for at, _ in group), statistics.median(value for _, value in group))
        for group in groups
    ]


def tenths(points: Sequence[Point]) -> tuple[list[Point], list[Point]]:
    """The points of the first and of the last tenth of the time."""
    first, last = points[0][0], points[-1][0]
    width = (last - first) / 10
    return [p for p in points if p[0] <= first + width], [p for p in points if p[0] >= last - width]


def growth_ratio(total: Sequence[Point], per: Sequence[Point]) -> float | None:
    """How much `total` grows for each one of `per` in the last tenth, over the same in the first.

    None where there are too few points. Both have the same times.
    """
    if not total or not per:
        return None
    rates = []
    for part, base in zip(tenths(total), tenths(per), strict=True):
        grown = base[-1][1] - base[0][1]
        if len(part) < 2 or grown <= 0:
            return None
        rates.append((part[-1][1] - part[0][1]) / grown)
    return rates[1] / rates[0] if rates[0] > 0 else None
