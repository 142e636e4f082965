"""Tasks that do to the event loop that they share what no code should."""

import asyncio
import contextlib
import os
import sys
import threading
import time
from pathlib import Path

from hyrex.registry import HyrexRegistry
from tests.integration.worker.bench_app import note

hy = HyrexRegistry()


async def part(error: BaseException) -> None:
    """A part of a run that ends so."""
    await asyncio.sleep(0)
    raise error


async def for_long() -> None:
    """Wait longer than any test."""
    note("for long")
    await asyncio.sleep(600)


def noted(text: str) -> bool:
    """Return True if somebody has noted the text."""
    return text in Path(os.environ["BENCH_JOURNAL"]).read_text().split()


@hy.task
async def linger(text: str) -> str:
    """Wait beside the others until somebody notes the text."""
    note("linger")
    await asyncio.gather(until_noted(text), until_noted(text))
    return text


async def until_noted(text: str) -> None:
    """A part of it."""
    while not noted(text):
        await asyncio.sleep(0.02)


@hy.task
async def exit_in_gather() -> None:
    """End the process in a part that is awaited."""
    await asyncio.gather(part(SystemExit(4)), for_long())


@hy.task
async def interrupt_in_group() -> None:
    """End the process in a task group."""
    async with asyncio.TaskGroup() as group:
        group.create_task(part(KeyboardInterrupt()))
        group.create_task(for_long())


@hy.task
async def exit_in_background() -> None:
    """End the process in a part that nobody awaits."""
    task = asyncio.create_task(part(SystemExit(4)))
    await for_long()
    await task


@hy.task
async def exit_in_callback() -> None:
    """End the process in a callback."""
    asyncio.get_running_loop().call_soon(sys.exit, 4)
    await for_long()


@hy.task
async def exit_and_return() -> str:
    """Hide that a part has ended the process."""
    task = asyncio.create_task(part(SystemExit(4)))
    while not task.done():
        await asyncio.sleep(0)
    return "well"


@hy.task
async def stop_loop() -> None:
    """Stop everything."""
    with contextlib.suppress(Exception):
        asyncio.get_running_loop().stop()
    await asyncio.sleep(0)


@hy.task
async def stop_loop_later() -> None:
    """Stop everything from a callback."""
    loop = asyncio.get_running_loop()
    loop.call_soon(loop.stop)
    await for_long()


@hy.task
async def stop_loop_by_thread() -> None:
    """Stop everything from a thread."""
    loop = asyncio.get_running_loop()
    await asyncio.to_thread(loop.call_soon_threadsafe, loop.stop)
    await for_long()


@hy.task
async def block_in_background() -> None:
    """Block everybody in a part that nobody awaits."""
    task = asyncio.create_task(block())
    await for_long()
    await task


async def block() -> None:
    """Block the loop."""
    time.sleep(600)  # noqa: ASYNC251  # that is what is wrong with it


@hy.task
async def close_loop() -> None:
    """Close everything."""
    asyncio.get_running_loop().close()


@hy.task
async def exit_in_handler() -> None:
    """End the process where errors are handled."""
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda _loop, _context: sys.exit(4))
    loop.call_soon(lambda: 1 / 0)
    await for_long()


@hy.task
async def cancel_everybody() -> None:
    """Do what a program does at its end."""
    for task in asyncio.all_tasks():
        task.cancel()
    await for_long()


@hy.task
async def raise_cancelled() -> None:
    """Say that it was cancelled."""
    raise asyncio.CancelledError("by myself")


@hy.task
async def deafen_loop() -> None:
    """Take away what the loop is woken by."""
    loop = asyncio.get_running_loop()
    for fd in range(3, 64):
        with contextlib.suppress(Exception):
            loop.remove_reader(fd)
    await for_long()


@hy.task
async def break_call_soon() -> None:
    """Have nothing be begun any more."""
    asyncio.get_running_loop().call_soon = lambda *_args, **_kwargs: 1 / 0  # type: ignore[method-assign, assignment]


@hy.task
def break_locks() -> None:
    """Have nothing be begun any more."""
    threading.Lock = None  # type: ignore[assignment]


@hy.task
async def break_factory() -> None:
    """Have no task be made any more."""
    asyncio.get_running_loop().set_task_factory(lambda *_args, **_kwargs: 1 / 0)  # type: ignore[arg-type]
