"""The layout of a workflow's picture: nothing overlaps, lines lead to the right, and it stays small."""

import random
from collections.abc import Callable, Sequence
from itertools import pairwise

import pytest

from hyrex.dashboard.graph.folding import (
    MOST_BOXES,
    MOST_LINES,
    Folded,
    WorkflowShape,
    folded,
    without_implied,
)
from hyrex.dashboard.graph.places import BOX_HEIGHT, BOX_WIDTH, Layout, layout_of

DRAW = random.Random(20261128)
MOST_NODES = 1000


def graph(
    count: int, upstreams: Callable[[int], Sequence[int]], task: Callable[[int], str] = str, root: str = ""
) -> WorkflowShape:
    """A graph by its nodes' numbers."""
    waits = tuple(tuple((place, False) for place in upstreams(at)) for at in range(count))
    names = tuple(f"n{at}" for at in range(count))
    return WorkflowShape(root or str(DRAW.random()), tuple(map(task, range(count))), names, waits)


def some_before(at: int, most: int, back: int = MOST_NODES) -> list[int]:
    """Some of the nodes before one."""
    first = max(0, at - back)
    return sorted(DRAW.sample(range(first, at), min(at - first, DRAW.randint(0, most))))


SHAPES = {
    "one": graph(1, lambda at: []),
    "diamond": graph(4, lambda at: [[], [0], [0], [1, 2]][at]),
    "a chain": graph(MOST_NODES, lambda at: [at - 1] if at else []),
    "a chain of one task": graph(MOST_NODES, lambda at: [at - 1] if at else [], lambda at: "t"),
    "one layer": graph(MOST_NODES, lambda at: []),
    "one layer of one task": graph(MOST_NODES, lambda at: [], lambda at: "t"),
    "pipelines": graph(999, lambda at: [at - 1] if at % 3 else [], lambda at: f"t{at % 3}"),
    "two layers, each after each": graph(280, lambda at: range(140) if at >= 140 else []),
    "dense": graph(MOST_NODES, lambda at: some_before(at, 40)),
    "sparse": graph(MOST_NODES, lambda at: some_before(at, 2, 60), lambda at: f"t{at % 7}"),
    **{f"random {each}": graph(40 * each, lambda at: some_before(at, 3, 20)) for each in (1, 2, 3, 4, 5)},
}


@pytest.mark.parametrize("shape", SHAPES)
def test_boxes_do_not_overlap_and_lines_lead_to_the_right(shape: str) -> None:
    layout = layout_of(SHAPES[shape])
    columns: dict[float, list[float]] = {}
    for left, top in layout.corners:
        assert left >= 0
        assert top >= 0
        assert left + BOX_WIDTH <= layout.width
        assert top + BOX_HEIGHT <= layout.height
        columns.setdefault(left, []).append(top)
    for tops in columns.values():
        for one, next_one in pairwise(sorted(tops)):
            assert next_one - one >= BOX_HEIGHT
    for one, next_one in pairwise(sorted(columns)):
        assert next_one - one > BOX_WIDTH
    for (begin, end), points in layout.paths.items():
        assert points[0][0] == layout.corners[begin][0] + BOX_WIDTH
        assert points[-1][0] == layout.corners[end][0]
        assert all(x < next_x for (x, _), (next_x, _) in pairwise(points))


@pytest.mark.parametrize("shape", SHAPES)
def test_a_layout_is_small_whatever_the_workflow(shape: str) -> None:
    layout = layout_of(SHAPES[shape])
    assert len(layout.folded.boxes) <= MOST_BOXES
    assert len(layout.paths) <= MOST_LINES
    placed = [at for box in layout.folded.boxes for at in box]
    assert sorted(placed) == list(range(len(SHAPES[shape].tasks))), "each node is in one box"


@pytest.mark.parametrize("shape", SHAPES)
def test_what_waits_for_another_can_be_reached_from_it(shape: str) -> None:
    found = folded(SHAPES[shape])
    box_of = {at: box for box, members in enumerate(found.boxes) for at in members}
    reached = reached_from(found)
    for at, upstreams in enumerate(SHAPES[shape].upstreams):
        for place, _ in upstreams:
            begin, end = box_of[place], box_of[at]
            assert begin == end or end in reached[begin]


def test_the_same_graph_has_the_same_layout() -> None:
    def made() -> Layout:
        waits = random.Random(5)
        return layout_of.__wrapped__(graph(60, lambda at: sorted(waits.sample(range(at), min(at, 2)))))

    assert made() == made()


def test_many_nodes_that_are_alike_are_one_box_and_few_are_not() -> None:
    def fan(count: int) -> WorkflowShape:
        """A node, many after it, and one after them all."""

        def upstreams(at: int) -> Sequence[int]:
            return [] if not at else [0] if at <= count else range(1, count + 1)

        return graph(count + 2, upstreams, lambda at: "page" if 0 < at <= count else f"t{at}")

    assert folded(fan(400)).boxes == ((0,), tuple(range(1, 401)), (401,))
    assert folded(fan(400)).lines == {(0, 1): False, (1, 2): False}
    assert len(folded(fan(7)).boxes) == 9


def test_pipelines_that_are_alike_are_one_and_no_node_of_another_task_is_in_them() -> None:
    found = folded(SHAPES["pipelines"])
    assert [len(box) for box in found.boxes] == [333, 333, 333]
    assert found.lines == {(0, 1): False, (1, 2): False}


def test_nodes_of_one_task_in_two_places_are_two_boxes() -> None:
    def upstreams(at: int) -> Sequence[int]:
        return [] if at < 10 else range(10) if at == 10 else [10]

    found = folded(graph(21, upstreams, lambda at: "join" if at == 10 else "page"))
    assert found.boxes == (tuple(range(10)), (10,), tuple(range(11, 21)))


def test_lines_that_others_imply_are_left_out_and_no_other() -> None:
    lines = {(0, 1): False, (1, 2): True, (0, 2): False, (0, 3): False}
    found = without_implied(Folded(((0,), (1,), (2,), (3,)), lines))
    assert found.lines == {(0, 1): False, (1, 2): True, (0, 3): False}
    assert found.left_out == 1


def reached_from(found: Folded) -> dict[int, set[int]]:
    """For each box those to which lines lead from it."""
    after: dict[int, list[int]] = {box: [] for box in range(len(found.boxes))}
    for begin, end in found.lines:
        after[begin].append(end)
    reached: dict[int, set[int]] = {}
    for start in after:
        seen, waiting = set[int](), [start]
        while waiting:
            for each in after[waiting.pop()]:
                if each not in seen:
                    seen.add(each)
                    waiting.append(each)
        reached[start] = seen
    return reached
