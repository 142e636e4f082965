"""Tasks that both versions run. Each run appends its task's id to the file HYREX_ROLLING_RUNS."""

import os
import time

from hyrex import HyrexApp, HyrexRegistry, get_hyrex_context

hy = HyrexRegistry()
app = HyrexApp("rolling")
app.add_registry(hy)


def note() -> None:
    """One write() for each line, so that lines of several processes stay whole."""
    context = get_hyrex_context()
    assert context is not None
    file = os.open(os.environ["HYREX_ROLLING_RUNS"], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    os.write(file, f"{context.task_id}\n".encode())
    os.close(file)


@hy.task
def quick(number: int) -> int:
    """Return the argument."""
    note()
    return number


@hy.task
def slow(seconds: float) -> float:
    """Work for a moment, so that a worker that leaves has something to finish."""
    note()
    time.sleep(seconds)
    return seconds


@hy.task
def parent(number: int) -> int:
    """Send a child from within a run."""
    note()
    quick.send(number)
    return number
