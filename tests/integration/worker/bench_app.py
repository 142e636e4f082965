"""The tasks that the worker's tests run. They write to $BENCH_JOURNAL what they did."""

import asyncio
import os
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from hyrex.app import HyrexApp
from hyrex.context import get_hyrex_context
from hyrex.errors import NonRetryable, RetryAfter, TaskCancelled, TaskTimeout
from hyrex.registry import HyrexRegistry
from hyrex.runtime.waiting import waiting


def note(text: str) -> None:
    """Append a line to the journal."""
    with open(os.environ["BENCH_JOURNAL"], "a") as journal:
        journal.write(text + "\n")


@contextmanager
def lifespan(app: HyrexApp) -> Iterator[None]:
    """Entered once in each child."""
    note(f"enter {os.getpid()}")
    yield
    note(f"leave {os.getpid()}")


hy = HyrexRegistry()
app = HyrexApp("bench", lifespan=lifespan)
app.add_registry(hy)
not_an_app = 42


@hy.task
def add(a: int, b: int) -> int:
    """Return the sum."""
    return a + b


@hy.task
def pid() -> int:
    """Return the child's pid."""
    return os.getpid()


@hy.task
def write(text: str) -> None:
    """Note something."""
    note(text)


@hy.task
def wait_for(text: str) -> str:
    """Block as `handle.wait()` does, until another task has noted something."""
    note("waits")
    with waiting():
        while text not in Path(os.environ["BENCH_JOURNAL"]).read_text().split():
            time.sleep(0.01)
    return text


@hy.task
def wait_later(seconds: float) -> None:
    """Block for a while, then as `handle.wait()` does, for ever."""
    note("waits later")
    try:
        time.sleep(seconds)
        with waiting():
            time.sleep(60)
    except TaskTimeout:
        note("time is up")
        raise


kept: list[bytearray] = []


@hy.task
def grow(megabytes: int) -> None:
    """Hold memory."""
    kept.append(bytearray(megabytes << 20))


@hy.task
def sleep(seconds: float) -> str:
    """Block in C code."""
    note(f"sleep {os.getpid()}")
    try:
        time.sleep(seconds)
    except BaseException:
        note(f"woken {os.getpid()}")
        raise
    return "slept"


@hy.task
def freeze() -> None:
    """Suspend the child, until somebody continues or kills it, and keep its thread even then."""
    note(f"freeze {os.getpid()}")
    os.kill(os.getpid(), signal.SIGSTOP)
    time.sleep(600)


@hy.task
def sleep_uncaught(seconds: float) -> str:
    """A user's `except Exception` must not swallow a stop."""
    while True:
        try:
            time.sleep(seconds)
            return "slept"
        except Exception:
            continue


@hy.task
def spin() -> None:
    """Never end."""
    note(f"spin {os.getpid()}")
    while True:
        pass


@hy.task
def stubborn() -> None:
    """Ignore every stop."""
    while True:
        try:
            note(f"stubborn {os.getpid()}")
            time.sleep(600)
        except BaseException:
            note("ignored")


@hy.task(retry_backoff=lambda n: n * 10)
def fail(text: str) -> None:
    """Raise."""
    raise ValueError(text)


@hy.task
def fail_for_good() -> None:
    """Raise NonRetryable."""
    raise NonRetryable("never again")


@hy.task(no_retry_on=(KeyError,))
def fail_with_key() -> None:
    """Raise what its config forbids to retry."""
    raise KeyError("k")


@hy.task
def fail_later() -> None:
    """Raise RetryAfter."""
    raise RetryAfter(42)


@hy.task
def leave() -> None:
    """Raise SystemExit."""
    sys.exit(3)


@hy.task
def unstorable() -> object:
    """Return what cannot be stored."""
    return object()


@hy.task
def die(how: str) -> None:
    """End the process under the run."""
    note("dying")
    if how == "exit":
        os._exit(9)
    os.kill(os.getpid(), signal.SIGSEGV if how == "segfault" else signal.SIGKILL)


@hy.task
def context() -> dict[str, str]:
    """Return the context."""
    found = get_hyrex_context()
    assert found is not None
    return {
        "task_id": str(found.task_id),
        "root_id": str(found.root_id),
        "worker": found.worker,
        "attempt": str(found.attempt_number),
        "timeout": str(found.timeout_seconds),
    }


def on_error(error: BaseException) -> None:
    """Note the error and the context."""
    found = get_hyrex_context()
    note(f"on_error {type(error).__name__} {found.task_name if found else None}")
    raise RuntimeError("in the handler")


async def on_error_async() -> None:
    """Take no argument, and time."""
    await asyncio.sleep(0)
    note("on_error async")


@hy.task(no_retry_on=KeyError, retry_backoff=3)
async def fail_in_group(how: str) -> None:
    """Raise in a part of an async run, or deep in a group of a user's own."""
    if how == "deep":
        raise BaseExceptionGroup("own", [ValueError(), ExceptionGroup("inner", [KeyError("k")])])
    errors: dict[str, Exception] = {
        "final": NonRetryable("no"),
        "later": RetryAfter(7),
        "plain": ValueError(),
    }

    async def part() -> None:
        raise errors[how]

    async with asyncio.TaskGroup() as group:
        group.create_task(part())


@hy.task(on_error=on_error)
def fail_handled() -> None:
    """Raise, with a handler."""
    raise LookupError("handled")


@hy.task(on_error=on_error_async)
def spin_handled() -> None:
    """Never end, with an async handler."""
    try:
        while True:
            pass
    except TaskTimeout:
        note("asked")
        raise


@hy.task
def swallow() -> str:
    """End well when asked to stop."""
    note("swallow")
    try:
        time.sleep(30)
    except TaskCancelled:
        return "done anyway"
    return "slept"


@hy.task
async def asleep(seconds: float) -> str:
    """Wait without blocking."""
    note(f"asleep {os.getpid()}")
    await asyncio.sleep(seconds)
    return "slept"


@hy.task
async def aspin() -> None:
    """Block the event loop for ever."""
    note("aspin")
    while True:
        pass


@hy.task
async def afail() -> None:
    """Raise."""
    raise ValueError("async")


@hy.task(on_error=on_error_async)
async def ahang() -> None:
    """Wait for what never comes."""
    note("ahang")
    try:
        await asyncio.get_running_loop().create_future()
    except Exception:
        note("swallowed")
