"""Tasks for fault tests; each writes to the journal when it begins and when its code ends."""

import os
import signal
import time

from hyrex import HyrexApp, HyrexQueue, HyrexRegistry
from tests.chaos.app import execution

LIMIT = 2
hy = HyrexRegistry()
app = HyrexApp("faults")


@hy.task
def hold(seconds: float) -> float:
    """Works for a while."""
    with execution():
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            time.sleep(0.02)
        return seconds


@hy.task
def until(path: str) -> None:
    """Works until a file is there."""
    with execution():
        while not os.path.exists(path):
            time.sleep(0.02)


@hy.task(concurrency_key="one")
def alone_until(path: str) -> None:
    """As `until`, one at a time."""
    until(path)


@hy.task(concurrency_key="one")
def alone_once(number: int, fails: bool) -> int:
    """Returns a number or fails, one at a time."""
    with execution():
        if fails:
            raise ValueError(number)
        return number


@hy.task
def fails() -> None:
    """Fails."""
    with execution():
        raise ValueError


@hy.task
async def hold_async(seconds: float) -> float:
    """Waits for a while beside others."""
    import asyncio

    with execution():
        await asyncio.sleep(seconds)
        return seconds


@hy.task
def stubborn(seconds: float) -> None:
    """Swallows whatever asks it to stop."""
    with execution():
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            try:
                time.sleep(0.05)
            except BaseException:
                continue


@hy.task
def poison() -> None:
    """Kills its process each time."""
    with execution():
        os.kill(os.getpid(), signal.SIGKILL)


@hy.task
def once(number: int) -> int:
    """Returns its argument."""
    with execution():
        return number


@hy.task(queue=HyrexQueue("narrow", concurrency_limit=LIMIT))
def narrow(seconds: float) -> None:
    """Never more than LIMIT at once."""
    with execution():
        time.sleep(seconds)


app.add_registry(hy)
