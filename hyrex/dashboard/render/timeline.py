"""The time line of a task: where its runs lie between its submission and its end."""

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from hyrex.dashboard.render.values import FINAL, moment, run_word
from hyrex.v1 import task_pb2

MOST_RUNS: Final = 40
WIDTH: Final = 1000.0
NARROWEST: Final = 3.0


@dataclass(frozen=True, slots=True)
class RunBar:
    """One bar, in thousandths of the line's width. `word` is the run's status."""

    number: int
    word: str
    left: float
    width: float
    seconds: float


@dataclass(frozen=True, slots=True)
class Timeline:
    """Bars of runs between two times."""

    start: datetime
    end: datetime
    bars: tuple[RunBar, ...]
    left_out: int

    @property
    def seconds(self) -> float:
        """How long the line is."""
        return (self.end - self.start).total_seconds()


def bars_of(task: task_pb2.Task, now: datetime | None = None) -> Timeline | None:
    """The time line; None where nothing has begun."""
    start = moment(task, "submitted_at")
    begun = [(run, began) for run in task.runs if (began := moment(run, "started_at"))]
    if start is None or not begun:
        return None
    now = now or datetime.now(UTC)
    ends = [moment(run, "finished_at") or now for run, _ in begun]
    end = max(ends) if task.status in FINAL else max(now, *ends)
    start = min(start, *(began for _, began in begun))
    whole = max((end - start).total_seconds(), 0.001)
    bars = []
    for (run, began), ended in list(zip(begun, ends, strict=True))[-MOST_RUNS:]:
        left = (began - start).total_seconds() / whole * WIDTH
        seconds = max((ended - began).total_seconds(), 0.0)
        width = min(max(seconds / whole * WIDTH, NARROWEST), WIDTH)
        bars.append(RunBar(run.run_number, run_word(run.status), min(left, WIDTH - width), width, seconds))
    return Timeline(start, end, tuple(bars), max(0, len(begun) - MOST_RUNS))
