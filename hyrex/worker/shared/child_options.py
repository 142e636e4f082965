"""A child's command line, and the meanings of its exit statuses."""

from dataclasses import dataclass
from typing import Final

BROKEN: Final = 1  # user code broke the child's own machinery, or the lifespan failed at its end
UNUSABLE: Final = 3  # the user's app cannot be used
SOCKET_UNUSABLE: Final = 69  # user code broke the socket to the stream process, or made a message unencodable
ORPHANED: Final = 70  # the parent process is gone
UNTRUSTED: Final = 71  # the lease could not be renewed while runs were going on
MOST_AWAITING: Final = 10_000  # runs of one child that await other tasks and hold no slot

ON_ERROR_NS: Final = 5_000_000_000
"""How long an error handler may take. With the grace period, less than what a broker adds to a timeout."""


@dataclass(frozen=True, slots=True)
class ChildOptions:
    """The only argument of a child, as JSON: its target and the descriptors that it inherits."""

    target: str
    worker: str
    parent_pid: int
    socket_fd: int
    trust_fd: int
    ledger_fd: int
    token_fd: int  # a pipe that holds the token, which user code's own processes must not inherit
    log_format: str = "text"
