"""Reports to the broker of how runs ended: gathered, numbered, repeated until acknowledged.

There is no timer: while one report waits to be sent, the runs that end gather for the next.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain
from typing import Final, TypeAlias
from uuid import UUID

from msgspec import Struct

from hyrex.worker.shared.child_messages import Finished
from hyrex.worker.shared.outcome import Completed, Ending, Expired, Failed, TimedOut

_MOST_RUNS: Final = 1000
_MOST_FRAMES: Final = 4  # in flight: enough to keep the broker busy, few enough that frames fill up
_LARGE_RUNS: Final = (
    250  # so many are sent while another frame is in flight; fewer wait for its acknowledgement
)
_ITEM_BYTES: Final = 96  # ids, token and framing of one run


class UnreportedRun(Struct, frozen=True, gc=False):
    """A run that ended, and the id of its task."""

    task_id: str
    ending: Ending

    def __len__(self) -> int:
        """One run."""
        return 1

    @property
    def tokens(self) -> Sequence[int]:
        """Its token."""
        return (self.ending.token,)

    @property
    def size_bytes(self) -> int:
        """What it takes in a frame, at most."""
        outcome = self.ending.outcome
        if isinstance(outcome, Completed):  # and no bytes: what is reported is that it cannot be
            return _ITEM_BYTES
        if isinstance(outcome, Failed | TimedOut):
            error = outcome.error
            # UTF-8 takes at most four bytes for a character
            return _ITEM_BYTES + 4 * (len(error.type) + len(error.message) + len(error.traceback))
        if isinstance(outcome, Expired):
            return _ITEM_BYTES
        return _ITEM_BYTES + 4 * len(outcome.reason)


class FinishedRuns(Struct, frozen=True):
    """Runs that returned: a column of each."""

    task_ids: Sequence[bytes]
    tokens: Sequence[int]
    elapsed_us: Sequence[int]
    results: Sequence[bytes]

    def __len__(self) -> int:
        """How many runs."""
        return len(self.tokens)

    @property
    def size_bytes(self) -> int:
        """What they take in a frame, at most."""
        return _ITEM_BYTES * len(self.tokens) + sum(map(len, self.results))

    def cut(self, max_runs: int, max_bytes: int) -> "tuple[FinishedRuns, FinishedRuns]":
        """The first of them that are no more than that, at least one, and the rest."""
        count = size = 0
        for result in self.results[:max_runs]:
            size += _ITEM_BYTES + len(result)
            if count and size > max_bytes:
                break
            count += 1
        return self._part(slice(count)), self._part(slice(count, None))

    def _part(self, at: slice) -> "FinishedRuns":
        return FinishedRuns(self.task_ids[at], self.tokens[at], self.elapsed_us[at], self.results[at])


Unreported: TypeAlias = UnreportedRun | FinishedRuns


def tokens_of(parts: Iterable[Unreported]) -> Iterator[int]:
    """The tokens of all their runs."""
    return chain.from_iterable(part.tokens for part in parts)


class ReportQueue:
    """Endings that the broker has not acknowledged."""

    def __init__(self, wake: Callable[[], None]) -> None:
        """`wake` is called when there is something to report."""
        self._wake = wake
        self._gathered: deque[Unreported] = deque()
        self._waiting = 0  # runs that are gathered
        self._in_flight: dict[int, list[Unreported]] = {}
        self._resend: deque[int] = deque()
        self._last_id = 0
        self._unacknowledged = 0

    def __len__(self) -> int:
        """Runs that ended and are not acknowledged."""
        return self._waiting + sum(map(_runs, self._in_flight.values()))

    def add(self, task_id: str, ending: Ending) -> None:
        """Gather one more; if it returned, as a column."""
        outcome = ending.outcome
        if type(outcome) is Completed and type(outcome.result) is bytes:
            elapsed_us = (ending.elapsed_ns or 0) // 1000
            packed = UUID(task_id).bytes
            self._gather(FinishedRuns([packed], [ending.token], [elapsed_us], [outcome.result]))
        else:
            self._gather(UnreportedRun(task_id, ending))

    def add_finished(self, task_ids: Sequence[bytes], finished: Finished) -> None:
        """Gather runs that returned."""
        self._gather(FinishedRuns(task_ids, finished.tokens, finished.elapsed_us, finished.results))

    def _gather(self, part: Unreported) -> None:
        self._gathered.append(part)
        self._waiting += len(part)
        self._wake()

    def repeat_all(self) -> None:
        """Send all unacknowledged reports again, under their old numbers, on a new stream."""
        self._resend = deque(self._in_flight)
        self._unacknowledged = 0

    def next_report(self, max_runs: int, max_bytes: int) -> tuple[int, list[Unreported]] | None:
        """Return the next report to send, within the broker's limits; None if there is none now."""
        while self._resend:
            report_id = self._resend[0]
            parts = self._in_flight.get(report_id)
            if parts is None:
                self._resend.popleft()
                continue
            if self._unacknowledged and self._unacknowledged + _runs(parts) > max_runs:
                return None
            self._resend.popleft()
            self._unacknowledged += _runs(parts)
            return report_id, parts
        most = _MOST_FRAMES if self._waiting >= _LARGE_RUNS else 1
        if len(self._in_flight) >= most:
            return None
        parts = self._take(min(_MOST_RUNS, max_runs - self._unacknowledged), max_bytes)
        if not parts:
            return None
        self._last_id += 1
        self._in_flight[self._last_id] = parts
        self._waiting -= _runs(parts)
        self._unacknowledged += _runs(parts)
        return self._last_id, parts

    def acknowledge(self, report_id: int) -> list[Unreported]:
        """Return the runs of a report that is now acknowledged; none if it was acknowledged before."""
        parts = self._in_flight.pop(report_id, [])
        self._unacknowledged = max(0, self._unacknowledged - _runs(parts))
        self._wake()
        return parts

    def _take(self, max_runs: int, max_bytes: int) -> list[Unreported]:
        taken: list[Unreported] = []
        left_bytes = max_bytes - 1024
        while self._gathered and max_runs > 0:
            part = self._gathered[0]
            size_bytes = part.size_bytes
            if len(part) > max_runs or size_bytes > left_bytes:
                if taken and (isinstance(part, UnreportedRun) or left_bytes < _ITEM_BYTES):
                    break
                if isinstance(part, FinishedRuns):
                    taken += self._take_some(part, max_runs, left_bytes, alone=not taken)
                    break
            taken.append(self._gathered.popleft())
            max_runs -= len(part)
            left_bytes -= size_bytes
        return taken

    def _take_some(
        self, part: FinishedRuns, max_runs: int, max_bytes: int, *, alone: bool
    ) -> list[Unreported]:
        """The first runs of the first part; none if not even one fits beside others."""
        first, rest = part.cut(max_runs, max_bytes)
        if not alone and first.size_bytes > max_bytes:
            return []
        self._gathered.popleft()
        if len(rest):
            self._gathered.appendleft(rest)
        return [first]


def _runs(parts: Iterable[Unreported]) -> int:
    return sum(map(len, parts))
