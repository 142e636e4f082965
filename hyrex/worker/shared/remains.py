"""Finds and ends the processes that user code started in a child and left behind.

A child leads an operating-system session of its own and has a mark in its environment. Processes that it
starts inherit both, and one that leaves the session keeps the mark. The stream process is a subreaper: when a
child is gone, the processes below it become children of the stream process (on Linux; elsewhere only the
session is known).
"""

import os
import signal
import sys
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final

from hyrex.worker.shared.platform import children_of

MARK: Final = "HYREX_CHILD"
_ASK_S: Final = 0.5
_WITHIN_S: Final = 2.0
_PAUSE_S: Final = 0.005
_GONE: Final = (ProcessLookupError, ChildProcessError, PermissionError)


def await_end(pid: int) -> None:
    """Wait until a child of this process has ended, without reaping it, so that its id is not used again."""
    if hasattr(os, "waitid"):
        with suppress(ChildProcessError):
            os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)


def end_remains_of(pid: int, mark: str) -> None:
    """End the processes that a dead, unreaped child left: those in its session, or with its mark."""
    variable = f"{MARK}={mark}".encode()

    def is_left_by_it(orphan: int) -> bool:
        return orphan != pid and (_session(orphan) == pid or variable in _environment(orphan))

    _end_all(lambda: [orphan for orphan in children_of(os.getpid()) if is_left_by_it(orphan)])
    if sys.platform != "linux":
        with suppress(*_GONE):
            os.killpg(pid, signal.SIGKILL)


def end_everything_below(keep: Collection[int] = ()) -> None:
    """End and reap every process below this one, except the children in `keep`."""
    _end_all(lambda: [pid for pid in children_of(os.getpid()) if pid not in keep])


def reap_ended_orphans(ours: Collection[int]) -> None:
    """Reap the children of this process that have ended and are not among `ours`."""
    for pid in children_of(os.getpid()):
        if pid not in ours:
            with suppress(ChildProcessError):
                os.waitpid(pid, os.WNOHANG)


def _end_all(find: Callable[[], list[int]]) -> None:
    """End and reap what `find` finds until it finds nothing: children of an ended process take its place.

    SIGTERM comes first, since a process that cleans up after others needs a moment (multiprocessing's
    resource tracker does).
    """
    began, asked = time.monotonic(), set[int]()
    while (found := find()) and (waited_s := time.monotonic() - began) < _WITHIN_S:
        processes = {each for pid in found for each in _tree(pid)}
        if waited_s < _ASK_S:
            _signal(processes - asked, signal.SIGTERM)
            asked |= processes
        else:
            _signal(processes, signal.SIGKILL)
        time.sleep(_PAUSE_S)
        for pid in found:
            with suppress(ChildProcessError):
                os.waitpid(pid, os.WNOHANG)


def _signal(pids: Collection[int], number: int) -> None:
    for pid in pids:
        with suppress(*_GONE):
            os.kill(pid, number)


def _tree(pid: int) -> Iterator[int]:
    """A process and all below it."""
    yield pid
    for child in children_of(pid):
        yield from _tree(child)


def _session(pid: int) -> int:
    with suppress(OSError):
        return os.getsid(pid)
    return 0


def _environment(pid: int) -> list[bytes]:
    """The environment that a process was started with."""
    try:
        return Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    except OSError:
        return []
