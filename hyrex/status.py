"""The status of a task or of a run: members that compare equal to plain strings."""

from enum import StrEnum
from typing import Final

__all__ = ["TaskStatus"]


class TaskStatus(StrEnum):
    """The status of a task. A run is RUNNING or has one of the outcomes; only runs can be RELEASED."""

    QUEUED = "queued"
    SCHEDULED = "scheduled"
    RETRYING = "retrying"
    RUNNING = "running"
    COMPLETED = "completed"
    FAILED = "failed"
    TIMED_OUT = "timed_out"
    CANCELLED = "cancelled"
    LOST = "lost"
    BLOCKED = "blocked"
    RELEASED = "released"

    @property
    def is_final(self) -> bool:
        """True if a task of this status has ended."""
        return self in FINAL


FINAL: Final = frozenset(
    {TaskStatus.COMPLETED, TaskStatus.FAILED, TaskStatus.TIMED_OUT, TaskStatus.CANCELLED, TaskStatus.LOST}
)
