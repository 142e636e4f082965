"""CPU time and memory of processes."""

import contextlib
from collections.abc import Iterable, Iterator, Mapping
from typing import Final

import psutil

CHILD_MODULE: Final = "hyrex.worker.child.main"


class Cpu:
    """CPU seconds of Postgres and of named groups of processes since this object was made."""

    def __init__(self, postmaster: int, groups: Mapping[str, Iterable[int]]) -> None:
        self._postmaster = postmaster
        self._groups = {name: list(pids) for name, pids in groups.items()}
        self._first = self._look()

    def seconds(self) -> dict[str, float]:
        """CPU seconds of each group."""
        return {name: now - self._first[name] for name, now in self._look().items()}

    def _look(self) -> dict[str, float]:
        found = {"postgres": postgres_seconds(self._postmaster)}
        return found | {name: sum(map(own_seconds, pids)) for name, pids in self._groups.items()}


def postgres_seconds(postmaster: int) -> float:
    """CPU seconds of a Postgres server since its start; the postmaster's account holds ended backends."""
    times = psutil.Process(postmaster).cpu_times()
    return times.children_user + times.children_system + sum(map(own_seconds, tree(postmaster)))


def own_seconds(pid: int) -> float:
    """CPU seconds of one process; 0 if it has gone."""
    try:
        times = psutil.Process(pid).cpu_times()
    except psutil.Error:
        return 0.0
    return times.user + times.system


def rss_mb(pids: Iterable[int]) -> float:
    """Resident memory, pages that they share counted in each."""
    return sum(psutil.Process(pid).memory_info().rss for pid in pids) / 1e6


def tree(pid: int) -> list[int]:
    """A process and all below it."""
    return [process.pid for process in _tree(psutil.Process(pid))]


def worker_groups(launcher: int) -> dict[str, list[int]]:
    """The processes of a Hyrex worker: those around the stream, and the children that run tasks."""
    groups: dict[str, list[int]] = {"worker_stream": [], "children": []}
    for process in _tree(psutil.Process(launcher)):
        with contextlib.suppress(psutil.Error):
            name = "children" if _runs_tasks(process) else "worker_stream"
            groups[name].append(process.pid)
    return groups


def _runs_tasks(process: psutil.Process) -> bool:
    return any(CHILD_MODULE in word for word in process.cmdline())


def _tree(process: psutil.Process) -> Iterator[psutil.Process]:
    yield process
    with contextlib.suppress(psutil.Error):
        yield from process.children(recursive=True)
