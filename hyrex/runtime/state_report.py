"""At SIGUSR1, prints what a running process does: asyncio tasks and threads with their stacks, and its state.

For people who want to know what a process waits for. Nothing is stopped: the signal handler collects the
stacks, about 10 µs for each task, and a thread of its own writes them, so that a stderr that nobody reads
blocks nothing. The handler runs between two bytecodes: a process that is stuck in C code prints only later.
"""

import _thread
import asyncio
import linecache
import os
import signal
import sys
import threading
import traceback
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any, Final, TypeAlias

__all__ = ["ignored_by_children", "install", "pass_on"]

_SIGNAL: Final = getattr(signal, "SIGUSR1", None)  # not on Windows
_MOST_GROUPS: Final = 200
_NAMED: Final = 5
_STDERR: Final = 2

Stack: TypeAlias = tuple[tuple[str, int, str], ...]
"""(file, line, function), outermost first."""
State: TypeAlias = Callable[[], Iterable[str]]


def install(title: str, state: State) -> None:
    """Print tasks, threads and the lines of `state` at each SIGUSR1. Call it in the main thread."""

    def on_signal(_number: int, frame: FrameType | None) -> None:
        tasks, threads = _tasks(), _threads(frame)
        _thread.start_new_thread(_write, (title, tasks, threads, _said(state)))

    if _SIGNAL is not None:
        signal.signal(_SIGNAL, on_signal)


def pass_on(to: Callable[[int], None]) -> None:
    """Call `to` with the signal's number at each SIGUSR1, for a process whose child processes print."""
    if _SIGNAL is not None:
        signal.signal(_SIGNAL, lambda number, _frame: to(number))


@contextmanager
def ignored_by_children() -> Iterator[None]:
    """Have processes that are started here ignore SIGUSR1, which would end them, until they handle it."""
    if _SIGNAL is None:
        yield
        return
    before = signal.signal(_SIGNAL, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(_SIGNAL, before)


def _said(state: State) -> list[str]:
    try:
        return list(state())
    except Exception:  # a defect in the report must not end the process
        return traceback.format_exc().splitlines()


def _tasks() -> list[tuple[str, Stack]]:
    try:
        loop = asyncio.get_running_loop()
    except RuntimeError:
        return []
    return [(task.get_name(), _awaited(task.get_coro())) for task in asyncio.all_tasks(loop)]


def _awaited(coroutine: Any) -> Stack:
    """The chain of coroutines to the place where a coroutine waits. `Task.get_stack` has only the first."""
    stack: list[tuple[str, int, str]] = []
    while coroutine is not None:
        kind = next((k for k in ("cr", "ag", "gi") if hasattr(coroutine, f"{k}_frame")), None)
        frame = getattr(coroutine, f"{kind}_frame", None)
        if frame is None:
            stack.append(("", 0, getattr(coroutine, "__qualname__", type(coroutine).__name__)))
        else:
            stack.append(_place(frame, frame.f_lineno))
        coroutine = getattr(coroutine, "gi_yieldfrom" if kind == "gi" else f"{kind}_await", None)
    return tuple(stack)


def _place(frame: FrameType, line: int | None) -> tuple[str, int, str]:
    return frame.f_code.co_filename, line or 0, frame.f_code.co_qualname


def _threads(main: FrameType | None) -> dict[int, Stack]:
    """Stacks by thread; `main` is the frame of the main thread when the signal came."""
    frames = sys._current_frames()
    here = _thread.get_ident()
    stacks = {}
    for ident, frame in frames.items():
        top = main if ident == here else frame
        walked = traceback.walk_stack(top) if top is not None else ()
        stacks[ident] = tuple(_place(each, line) for each, line in walked)[::-1]
    return stacks


def _write(title: str, tasks: list[tuple[str, Stack]], threads: dict[int, Stack], state: list[str]) -> None:
    names = {thread.ident: thread.name for thread in threading.enumerate()}
    lines = [f"=== state of {title}, pid {os.getpid()} ===", *state]
    lines += [f"--- {len(tasks)} asyncio tasks ---", *_grouped(tasks)]
    lines.append(f"--- {len(threads)} threads ---")
    for ident, stack in threads.items():
        lines += [f"thread {names.get(ident, ident)}:", *map(_line, stack)]
    lines.append(f"=== end of state, pid {os.getpid()} ===")
    left = "\n".join(["", *lines, ""]).encode(errors="backslashreplace")
    try:
        while left:
            left = left[os.write(_STDERR, left) :]
    except OSError:
        pass  # stderr is closed


def _grouped(tasks: Iterable[tuple[str, Stack]]) -> Iterator[str]:
    """Lines of tasks, with those that wait at the same place together: a broker has thousands of them."""
    names: dict[Stack, list[str]] = {}
    for name, stack in tasks:
        names.setdefault(stack, []).append(name)
    groups = Counter({stack: len(each) for stack, each in names.items()}).most_common()
    for stack, count in groups[:_MOST_GROUPS]:
        more = ", ..." if count > _NAMED else ""
        yield f"{count} x {', '.join(sorted(names[stack])[:_NAMED])}{more}:"
        yield from map(_line, stack)
    if len(groups) > _MOST_GROUPS:
        yield f"... and {len(groups) - _MOST_GROUPS} more places"


def _line(place: tuple[str, int, str]) -> str:
    file, line, function = place
    if not file:
        return f"    {function}"
    code = linecache.getline(file, line).strip()
    return f"    {function} ({file}:{line}) {code}".rstrip()
