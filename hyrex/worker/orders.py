"""What a child is told on its command line, and what its exit statuses mean."""

from __future__ import annotations

from dataclasses import dataclass

UNUSABLE = 3  # the user's app cannot be used
ORPHANED = 70  # the stream process went away
UNTRUSTED = 71  # runs were going on and the lease could not be renewed


@dataclass(frozen=True, slots=True)
class ChildOrders:
    """The target and the inherited descriptors."""

    target: str
    worker: str
    parent_pid: int
    socket_fd: int
    trust_fd: int
    ledger_fd: int
