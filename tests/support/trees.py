"""Processes below a process, found and signalled while they come and go."""

import contextlib
import os
from collections.abc import Iterable

import psutil


def tree(pid: int) -> list[psutil.Process]:
    """A process and all below it, itself first; empty if it is gone."""
    try:
        top = psutil.Process(pid)
        return [top, *top.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


def running(pid: int, module: str) -> list[psutil.Process]:
    """Those of a tree that run a Python module; one that has just died (a zombie) does not."""
    found = []
    for process in tree(pid):
        with contextlib.suppress(psutil.Error):
            if module in process.cmdline():
                found.append(process)
    return found


def signal_all(processes: Iterable[psutil.Process], number: int) -> None:
    """Signal each of them, in order; those that have ended meanwhile are passed over."""
    for process in processes:
        with contextlib.suppress(psutil.Error):
            process.send_signal(number)


def is_gone(pid: int) -> bool:
    """Return True if a process has ended."""
    try:
        os.kill(pid, 0)
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except (ProcessLookupError, psutil.NoSuchProcess):
        return True
