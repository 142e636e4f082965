"""A lease that this session holds, and where its run stands.

HeldLease means received and not yet acknowledged as reported (rule 7).
"""

from __future__ import annotations

from time import monotonic
from typing import Protocol

from msgspec.structs import replace

from hyrex.worker.shared.child_messages import Run, Stop
from hyrex.worker.shared.memory import Ledger
from hyrex.worker.shared.outcome import Ending, ErrorInfo, StopCause


class Holder(Protocol):
    """The child that a run was given to, as far as its lease must know it."""

    ledger: Ledger

    def stop(self, order: Stop, /) -> None:
        """Ask the child to stop a run."""


class HeldLease:
    """One lease and its run. What most runs never change is kept by the class: each attribute set costs."""

    child: Holder | None = None  # where it was given to; None while it waits here
    ordinal = 0  # its place among all runs given to that child
    ended = False  # its outcome is on the way to the broker
    revoked = False  # nothing of it is reported any more
    stop: StopCause | None = None  # it was asked to stop
    stop_reason = ""
    stop_at = 0.0  # when it was asked (monotonic)
    settled: Ending | None = None  # how it ended, whatever becomes of its error handler

    def __init__(self, run: Run, pool: str) -> None:
        """It has arrived, and waits here."""
        self.run = run
        self.pool = pool
        self.waiting_since = monotonic()

    def leave_to_handler(self, ending: Ending, error: ErrorInfo) -> None:
        """It ended so with its child; another one is to tell the task's error handler."""
        self.settled = ending
        self.run = replace(self.run, told=error)
