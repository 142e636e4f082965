"""What callers stored in their own transactions, as rows that become tasks."""

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final, assert_never

from hyrex_broker.domain.keys import KeyedName
from hyrex_broker.domain.model import LaneId, TaskId

OPTIONS: Final = (
    "priority", "max_retries", "timeout_seconds", "retry_delay_seconds", "expires_in_seconds",
    "delay_seconds", "run_at", "idempotency_key", "headers", "labels", "content_type", "codec", "parent_id",
    "root_id", "trace_context", "concurrency_key", "max_per_key", "on_full", "fair_key",
)  # fmt: skip
"""The options that this broker knows. A row with one of a later version waits for a broker that knows it."""
ZERO_ID: Final = TaskId("00000000-0000-0000-0000-000000000000")
ID_OF_2200: Final = TaskId("0699e991-a800-0000-0000-000000000000")
"""The first one with a time of that year: those after it have none that a day can be made of."""


class HeldBack(StrEnum):
    """Why a row was not made a task yet."""

    FULL = "full"
    REFUSED = "refused"


@dataclass(frozen=True, slots=True)
class Position:
    """A place in the order of rows: by transaction, then by id."""

    xid: int = 0
    row_id: TaskId = ZERO_ID


@dataclass(frozen=True, slots=True)
class CommitSnapshot:
    """The transactions that were in progress at one moment, and the first that had not begun."""

    running: tuple[int, ...]
    next_xid: int

    @staticmethod
    def read(text: str) -> "CommitSnapshot":
        """From Postgres' text of one: xmin:xmax:in,progress."""
        _, next_xid, running = text.split(":")
        return CommitSnapshot(tuple(map(int, running.split(","))) if running else (), int(next_xid))


@dataclass(frozen=True, slots=True)
class OutboxRow:
    """One row, without what it carries."""

    row_id: TaskId
    place: Position
    is_late: bool
    """Its transaction was in progress at the last look."""
    task: str
    queue: str
    size_bytes: int
    has_key: bool
    unknown_option: str | None
    held: HeldBack | None = None
    concurrency_key: str | None = None
    fair_key: str | None = None

    @property
    def named(self) -> KeyedName:
        """What decides the lane of its task."""
        return KeyedName(self.queue, self.task, self.concurrency_key, self.fair_key)


@dataclass(frozen=True, slots=True)
class RelayedTask:
    """A task that was made of a row."""

    task_id: TaskId
    lane: LaneId
    rank: int
    waits: bool
    """For its time."""
    is_blocked: bool
    """It is not ready yet: it must be followed."""


@dataclass(slots=True)
class Cursor:
    """Where a broker goes on: it has seen what was committed at `since`, and later rows up to these."""

    since: CommitSnapshot
    late: Position = field(default_factory=Position)
    new: Position = field(default_factory=Position)

    def begins(self) -> Position:
        """The place after which later transactions are read."""
        first = Position(self.since.next_xid)
        return max(first, self.new, key=lambda each: (each.xid, each.row_id))


def why_waiting(held: HeldBack | None, queue: str, reason: str | None) -> str:
    """What a row waits for, as text for people."""
    match held:
        case None:
            return "it is in the outbox, from which a broker takes it in a moment"
        case HeldBack.FULL:
            return f"it is in the outbox until queue {queue!r} has room"
        case HeldBack.REFUSED:
            return f"it is in the outbox, and no task can be made of it: {reason}"
        case _:
            assert_never(held)
