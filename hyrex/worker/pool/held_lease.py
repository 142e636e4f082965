"""A lease that this session holds, and the state of its run.

A lease is held from its arrival until the broker acknowledges the report of its run (rule 7).
"""

from time import monotonic
from typing import Protocol

from msgspec.structs import replace

from hyrex.worker.shared.child_messages import Stop
from hyrex.worker.shared.memory import Ledger
from hyrex.worker.shared.outcome import Ending, ErrorInfo, StopCause, dropped
from hyrex.worker.shared.runs import Run


class Holder(Protocol):
    """What a lease must know of the child that its run was given to."""

    ledger: Ledger

    def stop(self, order: Stop, /) -> None:
        """Ask the child to stop a run."""


class HeldLease:
    """One lease and its run. Values that most runs never change are defaults of the class: setting an
    attribute takes time."""

    child: Holder | None = None  # where it was given to; None while it waits here
    ordinal = 0  # its place among all runs given to that child
    revoked = False  # nothing of it is reported any more
    stop: StopCause | None = None  # it was asked to stop
    stop_reason = ""
    stop_at = 0.0  # when it was asked (monotonic)
    settled: Ending | None = None  # how it ended, while its error handler still runs

    def __init__(self, run: Run, pool: str) -> None:
        """It has arrived, and waits in the pool."""
        self.run = run
        self.pool = pool
        self.waiting_since = monotonic()

    @property
    def alone(self) -> bool:
        """True if it needs a child of its own."""
        return self.run.alone

    def ending_unbegun(self) -> Ending | None:
        """How it ends if its child has not begun with it and it was asked to stop; None if it may begin.

        What is here for its error handler has ended before: the handler is called, unless nobody is told.
        """
        if self.stop is None or (self.settled is not None and not self.revoked):
            return None
        return Ending(self.run.token, dropped(self.stop, self.stop_reason))

    def leave_to_handler(self, ending: Ending, error: ErrorInfo) -> None:
        """Its child was killed, and it ended so; another child is to call the task's error handler."""
        self.settled = ending
        self.run = replace(self.run, told=error)
