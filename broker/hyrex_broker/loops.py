"""Waits of a broker's life, and its loops: run again where one fails, until they are cancelled."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Sequence
from typing import Any, Final, TypeVar

from hyrex_broker.domain.futures import retrieve
from hyrex_broker.storage.pool import Database

T = TypeVar("T")
log = logging.getLogger(__name__)

_CANCEL_WITHIN_S: Final = 1.0
_RESTART_AFTER_S: Final = 1.0


async def either(events: Iterable[asyncio.Event]) -> None:
    """Wait for the first of some events."""
    waits = [asyncio.ensure_future(event.wait()) for event in events]
    try:
        await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for wait in waits:
            wait.cancel()


async def unless(stop: asyncio.Event, work: Coroutine[Any, Any, T]) -> T | None:
    """What some work returns or raises; None if `stop` is set before, and then the work is cancelled."""
    task, stopped = asyncio.ensure_future(work), asyncio.ensure_future(stop.wait())
    task.add_done_callback(retrieve)  # of what may be given up
    try:
        await asyncio.wait((task, stopped), return_when=asyncio.FIRST_COMPLETED)
        return task.result() if task.done() else None
    finally:
        stopped.cancel()
        if not task.done():
            task.cancel()
            # No longer: what a connection without answers is asked for at the end may take minutes.
            await asyncio.wait((task,), timeout=_CANCEL_WITHIN_S)


async def end_loops(loops: Sequence[asyncio.Task[None]], database: Database) -> None:
    """Cancel the loops. A connection without answers delays a cancellation, or turns it into a timeout: then
    the connections are closed, and the loops are cancelled again."""
    pending = set(loops)
    while pending:
        for task in pending:
            task.cancel()
        _, pending = await asyncio.wait(pending, timeout=_CANCEL_WITHIN_S)
        if pending:
            log.warning("closing database connections that do not answer", extra={"loops": len(pending)})
            database.terminate()


async def rerun_if_it_fails(run: Callable[[], Awaitable[None]], ending: asyncio.Event) -> None:
    """Run a loop until it is cancelled. If it fails by a defect, it is run again a second later."""
    while not ending.is_set():
        try:
            await run()
        except Exception:
            log.exception("a loop failed; it runs again", extra={"loop": getattr(run, "__qualname__", "")})
        if not ending.is_set():
            await asyncio.sleep(_RESTART_AFTER_S)
