"""What callers stored in their own transactions, as rows that become tasks."""

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import IntEnum, StrEnum
from types import MappingProxyType
from typing import Final, Generic, Protocol, TypeVar, assert_never

from hyrex_broker.domain.features import Feature
from hyrex_broker.domain.keys import KeyedName
from hyrex_broker.domain.model import LaneId, TaskId

OPTIONS: Final = (
    "priority", "max_retries", "timeout_seconds", "retry_delay_seconds", "expires_in_seconds",
    "delay_seconds", "run_at", "idempotency_key", "headers", "labels", "content_type", "codec", "parent_id",
    "root_id", "trace_context", "concurrency_key", "max_per_key", "on_full", "fair_key",
)  # fmt: skip
"""The options that this broker knows. A row with one of a later version waits for a broker that knows it."""
MOST_OPTIONS_BYTES: Final = 256 * 1024
"""Of a row's options, as JSON."""
_REASON_CHARACTERS: Final = 1000
ZERO_ID: Final = TaskId("00000000-0000-0000-0000-000000000000")
ID_OF_2200: Final = TaskId("0699e991-a800-0000-0000-000000000000")
"""The first one with a time of that year: those after it have none that a day can be made of."""


UNFIT: Final = MappingProxyType(
    {
        "run_at": "its run_at must lie between the years 1970 and 2200",
        "enqueued_at": "its enqueued_at must lie between the years 1970 and 2200",
        "texts": "its options headers and labels must be objects of texts",
    }
)
"""What `unfit` of the schema says of a row, as text for people."""
_NAME_BYTES: Final = 255


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
    reason: str | None = None
    """Why it was refused."""
    expires: bool = False
    unfit: str | None = None
    """What it has that no task may have: a key of UNFIT."""

    @property
    def features(self) -> frozenset[Feature]:
        """What every broker must know before its task may be stored (rule 21)."""
        needed = (
            (Feature.EXPIRY, self.expires),
            (Feature.KEYS, self.concurrency_key is not None),
            (Feature.FAIR_KEYS, self.fair_key is not None),
        )
        return frozenset(feature for feature, is_needed in needed if is_needed)

    @property
    def named(self) -> KeyedName:
        """What decides the lane of its task."""
        return KeyedName(self.queue, self.task, self.concurrency_key, self.fair_key)


class PlacedRow(Protocol):
    """A row as a look has found it."""

    @property
    def place(self) -> Position:
        """Where it is in the order of rows."""
        ...

    @property
    def is_late(self) -> bool:
        """True if its transaction was in progress at the last look."""
        ...


SeenRow = TypeVar("SeenRow", bound=PlacedRow)


@dataclass(frozen=True, slots=True)
class SeenRows(Generic[SeenRow]):
    """What a look has found, and its snapshot."""

    rows: list[SeenRow]
    snapshot: CommitSnapshot


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


def why_refused(row: OutboxRow, limit_bytes: int) -> str | None:
    """Why this broker can make no task of a row, whoever else is there; None if it can. `limit_bytes`: of a
    payload, to which the options may add theirs."""
    if row.unknown_option is not None:
        return f"this broker does not know option {row.unknown_option!r}; update the brokers"
    if row.row_id >= ID_OF_2200:
        return f"its id {row.row_id} has a time after the year 2200"
    for what, name in (("task", row.task), ("queue", row.queue)):
        if not 1 <= len(name.encode()) <= _NAME_BYTES:
            return f"the name of its {what} must have 1 to {_NAME_BYTES} bytes, got {name[:80]!r}"
    if row.unfit is not None:
        return UNFIT[row.unfit]
    if row.size_bytes > limit_bytes + MOST_OPTIONS_BYTES:
        return f"it has {row.size_bytes} bytes, the limit of this broker is {limit_bytes}"
    return None


def reason_of(found: object) -> str:
    """Why a row is refused, as it is stored: of an error its first line, since the others may quote what the
    row carries."""
    return str(found).partition("\n")[0][:_REASON_CHARACTERS]


def why_waiting(row_id: str, held: HeldBack | None, queue: str, reason: str | None) -> str:
    """What a row waits for, as text for people."""
    match held:
        case None:
            return "it is in the outbox, from which a broker takes it in a moment"
        case HeldBack.FULL:
            return f"it is in the outbox until queue {queue!r} has room"
        case HeldBack.REFUSED:
            return (
                f"its row in the outbox was refused, since no task can be made of it: {reason}; mend that and"
                f" try it again with `hyrex outbox retry {row_id}`, or remove it with"
                f" `hyrex outbox dismiss {row_id}`"
            )
        case _:
            assert_never(held)


@dataclass(frozen=True, slots=True)
class RefusedRow:
    """A row of which no task can be made, as people see it. Whoever owns the table may have inserted
    anything: texts are cut; an impossible time, or what is too large, is None."""

    row_id: TaskId
    task: str
    queue: str
    reason: str
    enqueued_at: datetime | None
    refused_at: datetime | None
    size_bytes: int
    options: str | None
    payload: bytes | None = None
    """Where it was asked for."""
    beside: bool = False
    """It is in the database beside the broker's."""


@dataclass(frozen=True, slots=True)
class RowChange:
    """What a row is given in the place of what it has; None leaves that as it is."""

    queue: str | None = None
    payload: bytes | None = None
    options: str | None = None
    run_at: datetime | None = None
    """When its task may run, if not after `delay`. Both follow from `options`, and go only with them."""
    delay: timedelta | None = None
    """From the change on, by the clock of the row's database."""


class RetryRowOutcome(IntEnum):
    """What became of a refused row that was tried again. Numbers equal those of hyrex.v1."""

    RELAYED = 1
    WAITING = 2
    REFUSED = 3
    NOT_FOUND = 4
