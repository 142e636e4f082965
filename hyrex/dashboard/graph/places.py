"""Where boxes and lines of a workflow's picture are, in pixels: layers from left to right.

Within a layer each item goes where its neighbours are, as near as the order and the gaps allow (least
squares, by "pool adjacent violators").
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from hyrex.dashboard.graph.folding import Folded, Line, WorkflowShape, folded
from hyrex.dashboard.graph.layers import Layers, layers_of

BOX_WIDTH: Final = 184.0
BOX_HEIGHT: Final = 46.0
BEND_HEIGHT: Final = 8.0
GAP_WIDTH: Final = 52.0
GAP_HEIGHT: Final = 14.0
MARGIN: Final = 10.0
ROUNDS: Final = 8
# A graph of 1,000 nodes with 20,000 lines takes some 2 MB.
KEPT_LAYOUTS: Final = 16


@dataclass(frozen=True, slots=True)
class Layout:
    """Boxes with their upper left corners, and lines with the points that they pass."""

    folded: Folded
    corners: tuple[tuple[float, float], ...]
    paths: dict[Line, tuple[tuple[float, float], ...]]
    width: float
    height: float


@lru_cache(KEPT_LAYOUTS)
def layout_of(graph: WorkflowShape) -> Layout:
    """The layout of a graph, which has a node at least; the same for the same graph."""
    found = folded(graph)
    layers = layers_of(found)
    middles = _middles(layers)
    top = min(middle - _height(layers, item) / 2 for item, middle in middles.items())
    columns = {item: depth for depth, row in enumerate(layers.rows) for item in row}
    lefts = {item: MARGIN + depth * (BOX_WIDTH + GAP_WIDTH) for item, depth in columns.items()}
    at = {item: middle - top + MARGIN for item, middle in middles.items()}
    corners = tuple((lefts[box], at[box] - BOX_HEIGHT / 2) for box in range(layers.count))
    bottom = max(at[item] + _height(layers, item) / 2 for item in at)
    paths = {line: _points(layers, way, lefts, at) for line, way in layers.ways.items()}
    width = len(layers.rows) * (BOX_WIDTH + GAP_WIDTH) - GAP_WIDTH + 2 * MARGIN
    return Layout(found, corners, paths, width, bottom + MARGIN)


def _points(
    layers: Layers, way: Sequence[int], lefts: dict[int, float], at: dict[int, float]
) -> tuple[tuple[float, float], ...]:
    points = [(lefts[way[0]] + BOX_WIDTH, at[way[0]])]
    for bend in way[1:-1]:
        points += [(lefts[bend], at[bend]), (lefts[bend] + BOX_WIDTH, at[bend])]
    return (*points, (lefts[way[-1]], at[way[-1]]))


def _height(layers: Layers, item: int) -> float:
    return BEND_HEIGHT if layers.is_bend(item) else BOX_HEIGHT


def _middles(layers: Layers) -> dict[int, float]:
    """How far down the middle of each item is."""
    at: dict[int, float] = {}
    for row in layers.rows:
        down = 0.0
        for item in row:
            at[item] = down + _height(layers, item) / 2
            down += _height(layers, item) + GAP_HEIGHT
        for item in row:
            at[item] -= down / 2
    for round_ in range(ROUNDS):
        for row in layers.rows if round_ % 2 == 0 else reversed(layers.rows):
            _settle(layers, row, at)
    return at


def _settle(layers: Layers, row: Sequence[int], at: dict[int, float]) -> None:
    """Move the items of a layer to where their neighbours are."""
    offsets, down = [], 0.0
    for place, item in enumerate(row):
        if place:
            down += (_height(layers, row[place - 1]) + _height(layers, item)) / 2 + GAP_HEIGHT
        offsets.append(down)
    wanted = []
    for item, offset in zip(row, offsets, strict=True):
        near = [at[each] for each in (*layers.before[item], *layers.after[item])]
        wanted.append((sum(near) / len(near) if near else at[item]) - offset)
    for item, offset, found in zip(row, offsets, _rising(wanted), strict=True):
        at[item] = offset + found


def _rising(values: Sequence[float]) -> list[float]:
    """The nearest numbers, by least squares, that never fall."""
    pools: list[tuple[float, int]] = []
    for value in values:
        total, count = value, 1
        while pools and pools[-1][0] / pools[-1][1] > total / count:
            before, many = pools.pop()
            total, count = total + before, count + many
        pools.append((total, count))
    return [total / count for total, count in pools for _ in range(count)]
