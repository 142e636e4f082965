"""The tasks of the soak: plain ones, and one for each thing that a task may do besides."""

import asyncio
import time
from typing import Final

from hyrex import HyrexApp, HyrexRegistry, get_hyrex_context

CHILDREN: Final = 2

hy = HyrexRegistry(queue="soak")
app = HyrexApp("soak")
app.add_registry(hy)


class Planned(Exception):
    """A failure that is part of the load."""


@hy.task
def plain(number: int) -> int:
    """Return the argument."""
    return number


@hy.task
def stamp(sent_ns: int) -> int:
    """Return how many nanoseconds passed between the send and this line."""
    return time.monotonic_ns() - sent_ns


@hy.task
async def slow(seconds: float) -> float:
    """Wait beside others in one process."""
    await asyncio.sleep(seconds)
    return seconds


@hy.task(max_retries=2, retry_backoff=0.5)
def retrying() -> int:
    """Fail once, then return."""
    context = get_hyrex_context()
    assert context is not None
    if context.attempt_number == 0:
        raise Planned("the first attempt fails")
    return context.attempt_number


@hy.task(max_retries=1, retry_backoff=0.5)
def failing() -> None:
    """Fail each time."""
    raise Planned("each attempt fails")


@hy.task
def parent(number: int) -> int:
    """Send children."""
    for child in range(CHILDREN):
        plain.send(number + child)
    return number
