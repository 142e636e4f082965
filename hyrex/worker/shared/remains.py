"""What user code leaves behind: processes below a child that is dead, and how they are found and ended.

A child leads a session of its own and bears a mark in its environment; processes that it starts inherit both,
and one that gives up the session keeps the mark. The stream process is a subreaper, so when a child is gone,
what was below it stands directly below the stream process (Linux; elsewhere only the session is known).
"""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import suppress
from pathlib import Path

from hyrex.worker.shared.platform import children_of

MARK = "HYREX_CHILD"
_ASK_S = 0.5
_WITHIN_S = 2.0
_PAUSE_S = 0.005
_GONE = (ProcessLookupError, ChildProcessError, PermissionError)


def await_end(pid: int) -> None:
    """Wait until a child of this process has ended, and leave it unreaped: its id stays taken."""
    if hasattr(os, "waitid"):
        with suppress(ChildProcessError):
            os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)


def end_remains_of(pid: int, mark: str) -> None:
    """End what a dead, unreaped child has left: its session, and orphans with its mark."""
    variable = f"{MARK}={mark}".encode()

    def is_of_it(orphan: int) -> bool:
        return orphan != pid and (_session(orphan) == pid or variable in _environment(orphan))

    _end_all(lambda: [orphan for orphan in children_of(os.getpid()) if is_of_it(orphan)])
    if sys.platform != "linux":
        with suppress(*_GONE):
            os.killpg(pid, signal.SIGKILL)


def end_everything_below(keep: Collection[int] = ()) -> None:
    """End and reap everything below this process except these children of it."""
    _end_all(lambda: [pid for pid in children_of(os.getpid()) if pid not in keep])


def reap_ended_orphans(ours: Collection[int]) -> None:
    """Reap children of this process that it has not started, as far as they have ended."""
    for pid in children_of(os.getpid()):
        if pid not in ours:
            with suppress(ChildProcessError):
                os.waitpid(pid, os.WNOHANG)


def _end_all(find: Callable[[], list[int]]) -> None:
    """End and reap what `find` finds, again and again: what stood below it appears in its place.

    They are asked first: what cleans up after others (multiprocessing's resource tracker) needs a moment.
    """
    began, asked = time.monotonic(), set[int]()
    while (found := find()) and (waited_s := time.monotonic() - began) < _WITHIN_S:
        victims = {victim for pid in found for victim in _tree(pid)}
        if waited_s < _ASK_S:
            _signal(victims - asked, signal.SIGTERM)
            asked |= victims
        else:
            _signal(victims, signal.SIGKILL)
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
    """As it was when the process began its program."""
    try:
        return Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    except OSError:
        return []
