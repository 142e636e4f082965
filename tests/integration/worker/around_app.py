"""Tasks with middleware that waits, raises and notes, for a real worker."""

import asyncio
import os
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Final

from hyrex import HyrexApp, HyrexRegistry, Middleware, RunInfo, get_hyrex_context

JOURNAL: Final = os.environ.get("BENCH_JOURNAL", "/dev/null")
LONG_S: Final = 600.0


def note(text: str) -> None:
    """Tell the test."""
    with Path(JOURNAL).open("a") as file:
        file.write(f"{text}\n")


def where(run: RunInfo) -> object:
    """Where this run is to wait."""
    return run.arguments.get("wait")


class Waiting(Middleware):
    """Waits before or after the function where its arguments say so, and notes what it sees."""

    @contextmanager
    def around_run(self, run: RunInfo, /) -> Iterator[None]:
        """For sync tasks."""
        try:
            if where(run) == "before":
                note("waiting before")
                time.sleep(LONG_S)
            yield
            if where(run) == "after":
                note("waiting after")
                time.sleep(LONG_S)
        except BaseException as error:
            note(f"saw {type(error).__name__}")
            raise
        note(f"saw result {run.result}")

    @asynccontextmanager
    async def around_run_async(self, run: RunInfo, /) -> AsyncIterator[None]:
        """For async tasks."""
        try:
            if where(run) == "before":
                note("waiting before")
                await asyncio.sleep(LONG_S)
            yield
        except BaseException as error:
            note(f"saw {type(error).__name__}")
            raise
        note(f"saw result {run.result}")

    @contextmanager
    def around_on_error(self, run: RunInfo, /) -> Iterator[None]:
        """For error handlers."""
        note(f"before the handler of {run.context.task_name}")
        yield
        note("after the handler")


hy = HyrexRegistry()
app = HyrexApp("around")
app.add_registry(hy)
app.middleware(Waiting())


def handler(error: BaseException) -> None:
    """Notes the error and whose it is."""
    context = get_hyrex_context()
    note(f"handler {type(error).__name__} of {context.task_name if context else None}")


@hy.task(on_error=handler)
def work(wait: str = "", fail: bool = False) -> str:
    """Returns or fails."""
    note("work")
    if fail:
        raise LookupError("failed")
    return "done"


@hy.task(on_error=handler)
async def work_later(wait: str = "", fail: bool = False) -> str:
    """Returns or fails."""
    note("work")
    if fail:
        raise LookupError("failed")
    return "done"


@hy.task
def die() -> None:
    """Ends its process."""
    os._exit(7)
