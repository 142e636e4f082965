"""In which layer each box stands, by the longest way to it, and in which order, so that few lines cross.

Lines over several layers are led through places of their own there ("bends"), up to a number of these: what
is left is drawn straight. Sugiyama's method, with means of the neighbours' places as the order.
"""

from bisect import bisect, insort
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Final

from hyrex.dashboard.graph.folding import Folded, Line, ordered

MOST_BENDS: Final = 2000
SWEEPS: Final = 8


@dataclass(slots=True)
class Layers:
    """Layers of items: boxes by their places, and above these the bends of lines. `ways`: the items that a
    line passes, its ends included."""

    count: int
    rows: list[list[int]]
    ways: dict[Line, list[int]]
    before: dict[int, list[int]] = field(default_factory=lambda: defaultdict(list))
    after: dict[int, list[int]] = field(default_factory=lambda: defaultdict(list))

    def is_bend(self, item: int) -> bool:
        """True for a place that a line passes."""
        return item >= self.count


def layers_of(found: Folded) -> Layers:
    """The layers of boxes, in order."""
    depths = _depths(found)
    rows: list[list[int]] = [[] for _ in range(max(depths) + 1)]
    for box, depth in enumerate(depths):
        rows[depth].append(box)
    layers = Layers(len(found.boxes), rows, {})
    _lead(layers, found, depths)
    _order(layers)
    return layers


def _depths(found: Folded) -> list[int]:
    before, depths = found.before(), [0] * len(found.boxes)
    for box in ordered(len(found.boxes), before):
        depths[box] = 1 + max((depths[each] for each in before[box]), default=-1)
    return depths


def _lead(layers: Layers, found: Folded, depths: Sequence[int]) -> None:
    """Lead lines through the layers between their ends, the short ones first."""
    item, left = layers.count, MOST_BENDS
    for begin, end in sorted(found.lines, key=lambda line: (depths[line[1]] - depths[line[0]], line)):
        between = range(depths[begin] + 1, depths[end])
        way = [begin]
        if len(between) <= left:
            left -= len(between)
            for depth in between:
                layers.rows[depth].append(item)
                way.append(item)
                item += 1
        way.append(end)
        layers.ways[begin, end] = way
        if len(way) - 1 == depths[end] - depths[begin]:
            for one, other in pairwise(way):
                layers.after[one].append(other)
                layers.before[other].append(one)


def _order(layers: Layers) -> None:
    best, fewest = [row[:] for row in layers.rows], _crossings(layers, layers.rows)
    for sweep in range(SWEEPS):
        if not fewest:
            break
        rows = range(1, len(layers.rows)) if sweep % 2 == 0 else range(len(layers.rows) - 2, -1, -1)
        for depth in rows:
            near = layers.rows[depth - 1] if sweep % 2 == 0 else layers.rows[depth + 1]
            _sort(layers.rows[depth], near, layers.before if sweep % 2 == 0 else layers.after)
        found = _crossings(layers, layers.rows)
        if found < fewest:
            best, fewest = [row[:] for row in layers.rows], found
    layers.rows = best


def _sort(row: list[int], near: Sequence[int], neighbours: dict[int, list[int]]) -> None:
    """By the mean place of the neighbours; what has none keeps its own."""
    at = {item: place for place, item in enumerate(near)}
    scale = len(near) / max(len(row), 1)
    wanted = {}
    for place, item in enumerate(row):
        places = [at[each] for each in neighbours[item]]
        wanted[item] = sum(places) / len(places) if places else place * scale
    row.sort(key=lambda item: wanted[item])


def _crossings(layers: Layers, rows: Sequence[Sequence[int]]) -> int:
    crossings = 0
    for row, below in pairwise(rows):
        at = {item: place for place, item in enumerate(below)}
        ends: list[int] = []
        for item in row:
            own = sorted(at[each] for each in layers.after[item])
            crossings += sum(len(ends) - bisect(ends, end) for end in own)
            for end in own:
                insort(ends, end)
    return crossings
