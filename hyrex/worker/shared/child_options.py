"""What a child is told on its command line, and what its exit statuses mean."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

BROKEN = 1  # user code broke off the child's own work, or its lifespan failed at its end
UNUSABLE = 3  # the user's app cannot be used
ORPHANED = 70  # the stream process went away
SPEECHLESS = 69  # it cannot talk to the stream process: user code broke their socket or what is to be said
UNTRUSTED = 71  # runs were going on and the lease could not be renewed
MOST_AWAITING = 10_000  # runs of one child that await other tasks and hold no slot

ON_ERROR_NS: Final = (
    5_000_000_000  # for an error handler; with the grace, below what a broker adds to a timeout
)


@dataclass(frozen=True, slots=True)
class ChildOrders:
    """The target and the inherited descriptors."""

    target: str
    worker: str
    parent_pid: int
    socket_fd: int
    trust_fd: int
    ledger_fd: int
    token_fd: int  # a pipe that holds the token, which user code's own processes must not inherit
