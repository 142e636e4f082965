"""How a run ended, as a value.

Made by the child, or by the stream process if the child died. It crosses the socket between them, and
`stream.convert` turns it into wire types.
"""

from enum import StrEnum

from msgspec import Struct


class StopCause(StrEnum):
    """Why a run was asked to stop."""

    TIMEOUT = "timeout"  # its timeout has passed: it ends as TimedOut
    CANCEL = "cancel"  # the broker asked for it: it ends as Cancelled
    DRAIN = "drain"  # the worker ends: it ends as Released
    TRUST = "trust"  # the lease could not be renewed in time: it ends as Released
    REVOKED = "revoked"  # the lease is void: its outcome is not reported


class ErrorInfo(Struct, frozen=True, array_like=True):
    """What a run raised, for people. `where` is the innermost line outside of this package; it is logged, not
    sent. `place` is where the user's own code raised it, the same for each such error."""

    type: str
    message: str
    traceback: str = ""
    where: str = ""
    place: str = ""


class Completed(Struct, frozen=True, array_like=True, tag="c", gc=False):
    """The function returned."""

    result: bytes


class Failed(Struct, frozen=True, array_like=True, tag="f"):
    """The function raised, or its arguments or its result were invalid."""

    error: ErrorInfo
    retryable: bool
    retry_delay_s: float | None = None


class TimedOut(Struct, frozen=True, array_like=True, tag="t"):
    """The run was stopped because its timeout had passed."""

    error: ErrorInfo
    retry_delay_s: float | None = None


class Cancelled(Struct, frozen=True, array_like=True, tag="x"):
    """The run ended after a cancel, or was cancelled before it began."""

    reason: str


class Expired(Struct, frozen=True, array_like=True, tag="e"):
    """The time in which the run had to begin was over, so it did not."""


class Released(Struct, frozen=True, array_like=True, tag="r"):
    """The run is given back: not started, or stopped in good order.

    With a delay, this worker could not decode the arguments, and another worker may.
    """

    started: bool
    reason: str
    retry_delay_s: float | None = None


class Lost(Struct, frozen=True, array_like=True, tag="l"):
    """The run's process ended before the run did; `alone` if nothing else was running in it."""

    reason: str
    alone: bool


Outcome = Completed | Failed | TimedOut | Cancelled | Expired | Released | Lost


def dropped(cause: StopCause, reason: str) -> Outcome:
    """The outcome of a run that was stopped before it began."""
    return Cancelled(reason) if cause is StopCause.CANCEL else Released(started=False, reason=reason)


class Ending(Struct, frozen=True, array_like=True, gc=False):
    """How one run ended. `elapsed_ns` is None if user code never began."""

    token: int
    outcome: Outcome
    elapsed_ns: int | None = None
