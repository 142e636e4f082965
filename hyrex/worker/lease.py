"""A lease that this session holds, and where its run stands.

Held means received and not yet acknowledged as reported (rule 7).
"""

from __future__ import annotations

from time import monotonic
from typing import TYPE_CHECKING

from hyrex.worker.frames import Run
from hyrex.worker.outcome import StopCause

if TYPE_CHECKING:
    from hyrex.worker.process import ChildProcess


class Held:
    """One lease and its run. What most runs never change is kept by the class: each attribute set costs."""

    child: ChildProcess | None = None  # where it was given to; None while it waits here
    ordinal = 0  # its place among all runs given to that child
    ended = False  # its outcome is on the way to the broker
    revoked = False  # nothing of it is reported any more
    stop: StopCause | None = None  # it was asked to stop
    stop_reason = ""
    stop_at = 0.0  # when it was asked (monotonic)

    def __init__(self, run: Run, pool: str) -> None:
        """It has arrived, and waits here."""
        self.run = run
        self.pool = pool
        self.waiting_since = monotonic()
