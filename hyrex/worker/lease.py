"""A lease that this session holds, and where its run stands.

Held means received and not yet acknowledged as reported (rule 7).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from time import monotonic
from typing import TYPE_CHECKING

from hyrex.worker.frames import Run
from hyrex.worker.outcome import StopCause

if TYPE_CHECKING:
    from hyrex.worker.process import ChildProcess


@dataclass(slots=True, eq=False)
class Held:
    """One lease and its run."""

    run: Run
    pool: str
    child: ChildProcess | None = None  # where it was given to; None while it waits here
    ordinal: int = 0  # its place among all runs given to that child
    waiting_since: float = field(default_factory=monotonic)  # since when it waits here
    ended: bool = False  # its outcome is on the way to the broker
    revoked: bool = False  # nothing of it is reported any more
    stop: StopCause | None = None  # it was asked to stop
    stop_reason: str = ""
    stop_at: float = 0.0  # when it was asked (monotonic)
