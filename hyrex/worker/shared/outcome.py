"""How a run ended, as a value.

Made where the run ended (in the child, or in the stream process when the child could not say),
carried over the socket to the child, turned into the wire's words by `convert` alone.
"""

from __future__ import annotations

from enum import StrEnum

from msgspec import Struct


class StopCause(StrEnum):
    """Why a run was asked to stop."""

    TIMEOUT = "timeout"  # its own time is up: ends as TimedOut
    CANCEL = "cancel"  # the broker asked: ends as Cancelled
    DRAIN = "drain"  # the worker leaves: ends as Released
    TRUST = "trust"  # the lease could not be renewed in time: ends as Released
    REVOKED = "revoked"  # the lease is void: whatever it ends as is not reported


class ErrorInfo(Struct, frozen=True, array_like=True):
    """What a run raised, for people. `where` is its innermost line of user code; only this worker logs it."""

    type: str
    message: str
    traceback: str = ""
    where: str = ""


class Completed(Struct, frozen=True, array_like=True, tag="c", gc=False):
    """The function returned."""

    result: bytes


class Failed(Struct, frozen=True, array_like=True, tag="f"):
    """The function raised, or its arguments or result were no good."""

    error: ErrorInfo
    retryable: bool
    retry_delay_s: float | None = None


class TimedOut(Struct, frozen=True, array_like=True, tag="t"):
    """The run was stopped because its time was up."""

    error: ErrorInfo
    retry_delay_s: float | None = None


class Cancelled(Struct, frozen=True, array_like=True, tag="x"):
    """The run obeyed a cancel, or was dropped before it began."""

    reason: str


class Released(Struct, frozen=True, array_like=True, tag="r"):
    """The run is given back: never started, or stopped cleanly. With a delay: this code does not know it."""

    started: bool
    reason: str
    retry_delay_s: float | None = None


class Lost(Struct, frozen=True, array_like=True, tag="l"):
    """The run's process went away under it; `alone` if nothing else ran there."""

    reason: str
    alone: bool


Outcome = Completed | Failed | TimedOut | Cancelled | Released | Lost


class Ending(Struct, frozen=True, array_like=True, gc=False):
    """One run's end. `elapsed_ns` is absent if user code never began."""

    token: int
    outcome: Outcome
    elapsed_ns: int | None = None
