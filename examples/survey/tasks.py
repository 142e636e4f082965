"""The survey's tasks."""

import asyncio
import time
import warnings
from pathlib import Path

from pydantic import BaseModel

from examples.survey.measure import Measure, measure
from hyrex import HyrexApp, HyrexRegistry, get_hyrex_context, send_many, wait_all

hy = HyrexRegistry(queue="survey")

ENCODINGS = ("utf-8", "latin-1")
"""Tried one after the other, an attempt each: a file that is not UTF-8 fails once and is retried."""


class Total(BaseModel):
    """The sum over some files."""

    files: int = 0
    lines: int = 0
    size_bytes: int = 0
    functions: int = 0
    classes: int = 0
    unparsed: int = 0

    def add(self, one: Measure) -> None:
        """One file more."""
        self.files += 1
        self.lines += one.lines
        self.size_bytes += one.size_bytes
        self.functions += one.functions or 0
        self.classes += one.classes or 0
        self.unparsed += one.functions is None


@hy.task(max_retries=len(ENCODINGS) - 1, retry_backoff=0.2)
def measure_file(path: Path) -> Measure:
    """Measure one file, with another encoding at each attempt."""
    context = get_hyrex_context()
    attempt = context.attempt_number if context else 0
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # old test data of the standard library warns when parsed
        return measure(path, ENCODINGS[attempt])


@hy.task(timeout_seconds=300)
def survey(paths: list[Path]) -> Total:
    """Fan out a task per file, wait for all of them, add up what they measured."""
    handles = send_many(measure_file.call(path) for path in paths)
    wait_all(handles, timeout=240)
    total = Total()
    for handle in handles:
        total.add(handle.result(timeout=1))
    return total


@hy.task(timeout_seconds=1, priority=10)
def stuck() -> None:
    """Never ends: its timeout strikes."""
    while True:
        pass


@hy.task
def later(sent: float) -> float:
    """How long after its sending it ran, in seconds."""
    return time.time() - sent


@hy.task
async def patient() -> None:
    """Waits until it is cancelled."""
    await asyncio.sleep(3600)


app = HyrexApp("survey")
app.add_registry(hy)
