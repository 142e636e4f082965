"""Which nodes of a workflow are one box of its picture.

Nodes that are alike (of one task, in the same place of the graph) become one box where they are many. What
has too many boxes or lines after that is folded further, so that a picture of 1,000 nodes stays small, and
one that can be read. Folded nodes never wait for one another, except in the last resort, which joins
neighbouring layers.
"""

from collections import defaultdict
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, TypeAlias

Line: TypeAlias = tuple[int, int]
"""From a box to another, by their places."""

MOST_ALIKE: Final = 7
"""More nodes than these that are alike are one box."""
MOST_BOXES: Final = 200
MOST_LINES: Final = 600
PLAIN_LINES: Final = 300
"""With more lines than these, lines that others imply are left out."""


@dataclass(frozen=True, slots=True)
class WorkflowShape:
    """The nodes of a workflow. Those of one root never change, so the root and the tasks' names (empty: not
    to be seen) tell graphs apart. `upstreams`: for which each waits, and whether it runs however they end."""

    root_id: str
    tasks: tuple[str, ...]
    names: tuple[str, ...] = field(compare=False)
    upstreams: tuple[tuple[tuple[int, bool], ...], ...] = field(compare=False)


@dataclass(frozen=True, slots=True)
class Folded:
    """Boxes with the places of their nodes, in the order of their first ones; and lines between them, with
    True where the end of a line runs however its beginning ends."""

    boxes: tuple[tuple[int, ...], ...]
    lines: dict[Line, bool]
    left_out: int = 0
    """Lines that others imply."""

    def before(self) -> dict[int, list[int]]:
        """For each box those from which lines lead to it."""
        before: dict[int, list[int]] = {box: [] for box in range(len(self.boxes))}
        for begin, end in self.lines:
            before[end].append(begin)
        return before


def folded(graph: WorkflowShape) -> Folded:
    """The graph as boxes: the first of the ways to fold that is small enough."""
    depths = depths_of(graph)
    for key in _ways(graph, depths):
        found = _grouped(graph, key)
        if len(found.boxes) > MOST_BOXES:
            continue
        if len(found.lines) > PLAIN_LINES:
            found = without_implied(found)
        if len(found.lines) <= MOST_LINES:
            return found
    raise AssertionError("bands of layers are a chain")


def depths_of(graph: WorkflowShape) -> list[int]:
    """In which layer each node is: one after the last of its upstreams."""
    depths: list[int] = []
    for each in graph.upstreams:
        depths.append(1 + max((depths[place] for place, _ in each), default=-1))
    return depths


def _ways(graph: WorkflowShape, depths: Sequence[int]) -> Iterator[Callable[[int], Hashable]]:
    """What nodes of one box have in common, in the finest way first."""
    likeness = _likeness(graph)
    counts: dict[Hashable, int] = defaultdict(int)
    for each in likeness:
        counts[each] += 1
    yield lambda at: likeness[at] if counts[likeness[at]] > MOST_ALIKE else at
    yield lambda at: (depths[at], graph.tasks[at])
    yield lambda at: depths[at]
    band = -(-(max(depths) + 1) // MOST_BOXES)
    yield lambda at: depths[at] // band


def _likeness(graph: WorkflowShape) -> list[Hashable]:
    """A pair of numbers for each node: equal where the task is the same and so is, up to names of nodes, what
    comes before it and what comes after it."""
    count = len(graph.tasks)
    after: list[set[int]] = [set() for _ in range(count)]
    for at, each in enumerate(graph.upstreams):
        for place, _ in each:
            after[place].add(at)
    before = [{place for place, _ in each} for each in graph.upstreams]
    down = _numbers(graph, range(count), before)
    up = _numbers(graph, range(count - 1, -1, -1), after)
    return list(zip(down, up, strict=True))


def _numbers(graph: WorkflowShape, order: Sequence[int], others: Sequence[set[int]]) -> list[int]:
    numbers, known = [0] * len(graph.tasks), dict[Hashable, int]()
    for at in order:
        look = (graph.tasks[at], frozenset(numbers[place] for place in others[at]))
        numbers[at] = known.setdefault(look, len(known))
    return numbers


def _grouped(graph: WorkflowShape, key: Callable[[int], Hashable]) -> Folded:
    members: dict[Hashable, list[int]] = defaultdict(list)
    for at in range(len(graph.tasks)):
        members[key(at)].append(at)
    box_of = {at: box for box, each in enumerate(members.values()) for at in each}
    lines: dict[Line, bool] = {}
    for at, each in enumerate(graph.upstreams):
        for place, anyway in each:
            line = (box_of[place], box_of[at])
            if line[0] != line[1]:
                lines[line] = lines.get(line, True) and anyway
    return Folded(tuple(map(tuple, members.values())), lines)


def without_implied(found: Folded) -> Folded:
    """The same without lines between boxes that are connected by way of others, too."""
    before = found.before()
    order = ordered(len(found.boxes), before)
    rank = {box: place for place, box in enumerate(order)}
    reached, kept = [0] * len(found.boxes), dict[Line, bool]()
    for box in order:
        for each in sorted(before[box], key=lambda other: rank[other], reverse=True):
            if not reached[box] >> each & 1:
                kept[each, box] = found.lines[each, box]
            reached[box] |= reached[each] | 1 << each
    return Folded(found.boxes, kept, len(found.lines) - len(kept))


def ordered(count: int, before: Mapping[int, Sequence[int]]) -> list[int]:
    """Every box after those from which lines lead to it."""
    after: dict[int, list[int]] = defaultdict(list)
    for end, begins in before.items():
        for begin in begins:
            after[begin].append(end)
    missing = [len(before[box]) for box in range(count)]
    order = [box for box in range(count) if not missing[box]]
    for box in order:
        for end in after[box]:
            missing[end] -= 1
            if not missing[end]:
                order.append(end)
    return order
