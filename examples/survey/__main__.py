"""`python -m examples.survey [DIRECTORY]`: sends a survey of Python files and checks its result.

Needs a broker and a worker for examples.survey.tasks:app; scripts/demo starts both.
"""

import sys
import sysconfig
import time
import warnings
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from examples.survey.measure import Measure, measure, source_files
from examples.survey.tasks import ENCODINGS, Total, later, measure_file, patient, stuck, survey
from hyrex import TaskHandle, send_many, wait_all

SCHEDULED_AFTER_S = 2.0
GATHERED = 200
"""Files that the parent task fans out itself; the rest is sent from here, with live progress."""


@dataclass(frozen=True)
class Sent:
    """Everything the demo sends."""

    files: Sequence[TaskHandle[Measure]]
    parent: TaskHandle[Total]
    stuck: TaskHandle[None]
    scheduled: TaskHandle[float]
    cancelled: TaskHandle[None]


def main() -> int:
    """Run the survey; exit status 0 only if every number adds up."""
    root = Path(sys.argv[1] if len(sys.argv) > 1 else sysconfig.get_path("stdlib"))
    console = Console()
    with TemporaryDirectory() as folder:
        return run(console, root, [*source_files(root), legacy_file(Path(folder))])


def legacy_file(folder: Path) -> Path:
    """A source file from before UTF-8, which not every Python installation still has: it needs a retry."""
    path = folder / "legacy.py"
    path.write_bytes("# -*- coding: latin-1 -*-\nGREETING = 'caf\xe9'\n".encode("latin-1"))
    return path


def run(console: Console, root: Path, paths: list[Path]) -> int:
    """Send, watch, show and check."""
    console.print(f"[bold]survey[/] of {len(paths)} Python files below {root}")
    began = time.perf_counter()
    sent = send_all(paths)
    console.print(f"{len(sent.files) + 4} tasks stored in {time.perf_counter() - began:.2f} s")
    watch(console, sent)
    took_s = time.perf_counter() - began
    show(console, sent, took_s)
    problems = check(sent, paths)
    for problem in problems:
        console.print(f"[red]wrong:[/] {problem}")
    if not problems:
        console.print("[green]every number adds up against a count made without Hyrex[/]")
    return 1 if problems else 0


def send_all(paths: list[Path]) -> Sent:
    """Send a task per file, and one of each other kind."""
    struck = stuck.send()
    cancelled = patient.send()
    scheduled = later.with_config(delay=SCHEDULED_AFTER_S).send(time.time())
    parent = survey.send(paths[:GATHERED])
    return Sent(send_many(measure_file.call(path) for path in paths), parent, struck, scheduled, cancelled)


def watch(console: Console, sent: Sent) -> None:
    """Show the files' progress until all has ended; cancel what would never end."""
    columns = (TextColumn("files"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console) as progress:
        bar = progress.add_task("files", total=len(sent.files))
        for start in range(0, len(sent.files), 100):
            part = sent.files[start : start + 100]
            wait_all(part, timeout=240)
            progress.advance(bar, len(part))
    sent.cancelled.cancel()
    wait_all([sent.parent, sent.stuck, sent.scheduled, sent.cancelled], timeout=240)


def show(console: Console, sent: Sent, took_s: float) -> None:
    """A table of what ran, where, how long and how often."""
    table = Table("task", "sent", "ended", "runs", "attempts", "workers", "median run", title="what ran")
    others: list[TaskHandle[Any]] = [sent.parent, sent.stuck, sent.scheduled, sent.cancelled]
    groups: dict[str, list[TaskHandle[Any]]] = {"measure_file": [*sent.files]} | {
        handle.task_name: [handle] for handle in others
    }
    for name, handles in groups.items():
        runs = [run for handle in handles for run in handle.task_runs]
        spans = sorted((r.finished - r.started).total_seconds() for r in runs if r.started and r.finished)
        ends = Counter(str(handle.status) for handle in handles)
        table.add_row(
            name,
            str(len(handles)),
            ", ".join(f"{count} {status}" for status, count in ends.items()),
            str(len(runs)),
            str(max((run.attempt_number + 1 for run in runs), default=0)),
            ", ".join(sorted({run.worker for run in runs if run.worker})),
            f"{spans[len(spans) // 2] * 1000:.1f} ms" if spans else "-",
        )
    console.print(table)
    count = len(sent.files) + min(GATHERED, len(sent.files)) + len(others)
    console.print(
        f"{count} tasks in {took_s:.2f} s: {count / took_s:.0f} tasks/s, each read and parsed a file"
    )


def check(sent: Sent, paths: list[Path]) -> list[str]:
    """Compare with a count made here, without Hyrex."""
    expected, retried = count_here(paths)
    found = Total()
    for handle in sent.files:
        found.add(handle.result(timeout=1))
    runs = sum(len(handle.task_runs) for handle in sent.files)
    few, _ = count_here(paths[:GATHERED])
    facts = [
        ("the sum over all files", found, expected),
        ("runs of measure_file", runs, len(paths) + retried),
        ("the parent's sum", sent.parent.result(timeout=1), few),
        ("the stuck task", str(sent.stuck.status), "timed_out"),
        ("the cancelled task", str(sent.cancelled.status), "cancelled"),
        ("the scheduled task waited", sent.scheduled.result(timeout=1) >= SCHEDULED_AFTER_S, True),
    ]
    return [f"{what}: {is_} instead of {should}" for what, is_, should in facts if is_ != should]


def count_here(paths: list[Path]) -> tuple[Total, int]:
    """The same sum, and how many files need a second attempt."""
    total, retried = Total(), 0
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for path in paths:
            try:
                total.add(measure(path))
            except UnicodeDecodeError:
                retried += 1
                total.add(measure(path, ENCODINGS[1]))
    return total, retried


if __name__ == "__main__":
    sys.exit(main())
