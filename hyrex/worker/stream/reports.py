"""Reports to the broker of how runs ended: gathered, numbered, repeated until acknowledged.

There is no timer: while one report waits to be sent, the runs that end gather for the next.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from msgspec import Struct

from hyrex.worker.shared.outcome import Completed, Ending, Failed, TimedOut

_MOST_RUNS = 1000
_MOST_FRAMES = 4  # in flight: enough to keep the broker busy, few enough that frames fill up
_LARGE_RUNS = 250  # so many are sent while another frame is in flight; fewer wait for its acknowledgement
_ITEM_BYTES = 96  # ids, token and framing of one run


class UnreportedRun(Struct, frozen=True, gc=False):
    """A run that ended, and the id of its task."""

    task_id: str
    ending: Ending


class ReportQueue:
    """Endings that the broker has not acknowledged."""

    def __init__(self, wake: Callable[[], None]) -> None:
        """`wake` is called when there is something to report."""
        self._wake = wake
        self._gathered: deque[UnreportedRun] = deque()
        self._in_flight: dict[int, list[UnreportedRun]] = {}
        self._resend: deque[int] = deque()
        self._last_id = 0
        self._unacknowledged = 0

    def __len__(self) -> int:
        """Runs that ended and are not acknowledged."""
        return len(self._gathered) + sum(map(len, self._in_flight.values()))

    def add(self, task_id: str, ending: Ending) -> None:
        """Add a run that ended to the next report."""
        self._gathered.append(UnreportedRun(task_id, ending))
        self._wake()

    def repeat_all(self) -> None:
        """Send all unacknowledged reports again, under their old numbers, on a new stream."""
        self._resend = deque(self._in_flight)
        self._unacknowledged = 0

    def next_report(self, max_runs: int, max_bytes: int) -> tuple[int, list[UnreportedRun]] | None:
        """Return the next report to send, within the broker's limits; None if there is none now."""
        while self._resend:
            report_id = self._resend[0]
            runs = self._in_flight.get(report_id)
            if runs is None:
                self._resend.popleft()
                continue
            if self._unacknowledged and self._unacknowledged + len(runs) > max_runs:
                return None
            self._resend.popleft()
            self._unacknowledged += len(runs)
            return report_id, runs
        most = _MOST_FRAMES if len(self._gathered) >= _LARGE_RUNS else 1
        if len(self._in_flight) >= most:
            return None
        runs = self._take(min(_MOST_RUNS, max_runs - self._unacknowledged), max_bytes)
        if not runs:
            return None
        self._last_id += 1
        self._in_flight[self._last_id] = runs
        self._unacknowledged += len(runs)
        return self._last_id, runs

    def acknowledge(self, report_id: int) -> list[UnreportedRun]:
        """Return the runs of a report that is now acknowledged; none if it was acknowledged before."""
        runs = self._in_flight.pop(report_id, [])
        self._unacknowledged = max(0, self._unacknowledged - len(runs))
        self._wake()
        return runs

    def _take(self, max_runs: int, max_bytes: int) -> list[UnreportedRun]:
        taken: list[UnreportedRun] = []
        size = 0
        while self._gathered and len(taken) < max_runs:
            size += _size_bytes(self._gathered[0].ending)
            if taken and size > max_bytes - 1024:
                break
            taken.append(self._gathered.popleft())
        return taken


def _size_bytes(ending: Ending) -> int:
    outcome = ending.outcome
    if isinstance(outcome, Completed):
        return _ITEM_BYTES + len(outcome.result)
    if isinstance(outcome, Failed | TimedOut):
        error = outcome.error
        # UTF-8 takes at most four bytes for a character
        return _ITEM_BYTES + 4 * (len(error.type) + len(error.message) + len(error.traceback))
    return _ITEM_BYTES + 4 * len(outcome.reason)
