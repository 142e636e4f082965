"""When each node of a workflow waited and ran, on one time axis.

A box of several nodes is one row, and where it is looked into, its nodes have rows of their own.
"""

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

from hyrex.dashboard.graph.drawing import Box
from hyrex.dashboard.graph.nodes import ShownNode, worst
from hyrex.dashboard.render.values import duration, moment, run_word

WIDTH: Final = 1000.0
NARROWEST: Final = 2.0
MOST_ROWS: Final = 250
MARKS: Final = 5
_STEPS: Final = (1.0, 1.2, 1.5, 2.0, 2.5, 3.0, 4.0, 5.0, 6.0, 8.0)
"""Seconds between two marks below 15 s, each times a power of ten."""
_LONG_STEPS_S: Final = (15, 20, 30, 45, 60, 90, 120, 180, 300, 600, 900, 1200, 1800, 2700)
"""From 15 s on, round as on a clock; above the last one come whole hours."""
WAITING: Final = frozenset({"queued", "scheduled", "retrying", "blocked"})


@dataclass(frozen=True, slots=True)
class Bar:
    """One stretch, in thousandths of the axis. `look`: wait, pause (between runs), or a run's status."""

    look: str
    left: float
    width: float
    title: str


@dataclass(frozen=True, slots=True)
class WaterfallRow:
    """A node, or a box of several. `seconds`: from when it could run to its end."""

    box: Box
    node: ShownNode | None
    bars: tuple[Bar, ...]
    seconds: float | None


@dataclass(frozen=True, slots=True)
class Waterfall:
    """Rows in the order of the graph; marks of the axis as texts. `left_out` rows are beyond the most."""

    rows: tuple[WaterfallRow, ...]
    marks: tuple[str, ...]
    start: datetime
    left_out: int


@dataclass(frozen=True, slots=True)
class _Stretch:
    look: str
    begin: datetime
    end: datetime
    words: str


def waterfall_of(boxes: Sequence[Box], opened: int | None, now: datetime | None = None) -> Waterfall | None:
    """The rows; None where nothing is known of any. `opened`: the box whose nodes have rows of their own."""
    now = now or datetime.now(UTC)
    found = [
        (box, node, list(_stretches(box.nodes if node is None else (node,), now)))
        for box, node in _subjects(boxes, opened)
    ]
    times = [time for _, _, stretches in found for each in stretches for time in (each.begin, each.end)]
    if not times:
        return None
    start, whole = min(times), axis_s((max(times) - min(times)).total_seconds())
    rows = [
        WaterfallRow(box, node, tuple(_bar(each, start, whole) for each in stretches), _seconds(stretches))
        for box, node, stretches in found[:MOST_ROWS]
    ]
    marks = tuple(duration(whole * place / (MARKS - 1)) if place else "0" for place in range(MARKS))
    return Waterfall(tuple(rows), marks, start, max(0, len(found) - MOST_ROWS))


def axis_s(seconds: float) -> float:
    """The shortest axis on which this has room and whose marks are round."""
    least = max(seconds, 0.004) / (MARKS - 1) * 0.999999  # a rounding error must not cost a step
    hours = math.ceil(least / 3600) * 3600
    if least > _LONG_STEPS_S[-1]:
        return hours * (MARKS - 1)
    scale = 10 ** math.floor(math.log10(least))
    short = [
        step * scale * ten for ten in (1, 10) for step in _STEPS if step * scale * ten < _LONG_STEPS_S[0]
    ]
    step: float = next(each for each in (*short, *_LONG_STEPS_S) if each >= least)
    return step * (MARKS - 1)


def _subjects(boxes: Sequence[Box], opened: int | None) -> Iterator[tuple[Box, ShownNode | None]]:
    for box in boxes:
        if len(box.nodes) == 1:
            yield box, box.nodes[0]
            continue
        yield box, None
        if box.place == opened:
            yield from ((box, node) for node in box.nodes)


def _stretches(nodes: Sequence[ShownNode], now: datetime) -> Iterator[_Stretch]:
    if len(nodes) == 1:
        yield from _of_node(nodes[0], now)
        return
    own = [list(_of_node(node, now)) for node in nodes]
    waits = [each[0] for each in own if each and each[0].look == "wait"]
    runs = [one for each in own for one in each if one.look not in ("wait", "pause")]
    if waits:
        begin = min(each.begin for each in waits)
        first = min((each.begin for each in runs), default=max(each.end for each in waits))
        yield _Stretch("wait", begin, max(begin, first), "until the first of them ran")
    if runs:
        begin, end = min(each.begin for each in runs), max(each.end for each in runs)
        look = worst(Counter(each.look for each in runs))
        yield _Stretch(look, begin, end, f"{len(runs)} runs, at the worst {look.replace('_', ' ')}")


def _of_node(node: ShownNode, now: datetime) -> Iterator[_Stretch]:
    """Its wait, its runs and the pauses between them, in their order."""
    at, look, words = node.ready_at, "wait", "waited"
    if at is None:
        return
    for run in node.task.runs:
        word, begin = run_word(run.status), moment(run, "started_at")
        end = moment(run, "finished_at") or now
        if begin is None:
            # It never began: a call from outside ended it, or a cancel.
            yield _Stretch(word if node.approval else look, at, max(at, end), f"{words}, then {word}")
            at = max(at, end)
            continue
        begin = max(begin, at)
        earlier = f" and ran {run.run_number} times" if run.run_number and look == "wait" else ""
        yield _Stretch(look, at, begin, words + earlier)
        yield _Stretch(word, begin, max(begin, end), f"run {run.run_number}: {word.replace('_', ' ')}")
        at, look, words = max(begin, end), "pause", "until the next run"
    if node.word in WAITING:
        yield _Stretch(look, at, max(at, now), "waits")


def _bar(each: _Stretch, start: datetime, whole: float) -> Bar:
    left = (each.begin - start).total_seconds() / whole * WIDTH
    seconds = (each.end - each.begin).total_seconds()
    width = min(max(seconds / whole * WIDTH, NARROWEST), WIDTH)
    return Bar(each.look, min(left, WIDTH - width), width, f"{each.words}, {duration(seconds)}")


def _seconds(stretches: Sequence[_Stretch]) -> float | None:
    if not stretches:
        return None
    whole: timedelta = max(each.end for each in stretches) - min(each.begin for each in stretches)
    return whole.total_seconds()
