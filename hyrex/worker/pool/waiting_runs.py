"""The runs of a pool that wait for a child, in order."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterable
from itertools import compress

from hyrex.worker.pool.held_lease import HeldLease

_LONG = 8  # runs that need a child of their own may wait so many times longer


class WaitingRuns:
    """Runs that any child may take (`backlog`), and runs that need a child of their own (`alone`)."""

    def __init__(self) -> None:
        self.backlog: deque[HeldLease] = deque()
        self.alone: deque[HeldLease] = deque()

    def add(self, held: HeldLease) -> None:
        """Add a run behind the others."""
        self._of(held).append(held)

    def put_back(self, runs: Iterable[HeldLease]) -> None:
        """Put runs in front of the others, since they have waited before."""
        now = time.monotonic()
        for held in reversed(list(runs)):
            held.child, held.waiting_since = None, now
            self._of(held).appendleft(held)

    def forget(self, held: HeldLease) -> None:
        """Remove a run, if it waits here."""
        waiting = self._of(held)
        if held in waiting:
            waiting.remove(held)

    def take(self, older_than_s: float, *, stuck: bool = False) -> list[HeldLease]:
        """Remove and return the runs that have waited that long; all of the backlog if children are `stuck`.

        A run that must be alone may wait longer, and so may one that is here only for its error handler: a
        child may have to be emptied or started for it. Together with the grace period, that is still less
        than what the broker adds to a timeout (15 s and the lease duration, from the assignment).
        """
        now = time.monotonic()
        taken: list[HeldLease] = []
        for waiting in (self.backlog, self.alone):
            usual_s = 0.0 if stuck and waiting is self.backlog else older_than_s
            due = [now - held.waiting_since >= _patience_s(held, usual_s) for held in waiting]
            if any(due):
                taken += compress(waiting, due)
                remaining = [held for held, is_due in zip(waiting, due, strict=True) if not is_due]
                waiting.clear()
                waiting.extend(remaining)
        return taken

    def _of(self, held: HeldLease) -> deque[HeldLease]:
        return self.alone if held.run.alone else self.backlog


def _patience_s(held: HeldLease, usual_s: float) -> float:
    return _LONG * usual_s if held.run.alone or held.settled is not None else usual_s
