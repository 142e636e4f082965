"""What the broker stores and moves, as values. Ids of tasks are canonical UUID texts.

Values that are made once per task are not frozen, only treated so: freezing triples the cost of making
them (0.25 us per field, measured with timeit), and a task needs seven of them.
"""

from dataclasses import dataclass, field, fields
from datetime import datetime
from enum import IntEnum
from typing import Any, Final, NewType

TaskId = NewType("TaskId", str)
SessionId = NewType("SessionId", int)
BrokerId = NewType("BrokerId", int)
LaneId = NewType("LaneId", int)
Token = NewType("Token", int)


class Outcome(IntEnum):
    """How a run ended. Numbers are stored, and equal those of hyrex.v1.RunStatus."""

    COMPLETED = 2
    FAILED = 3
    TIMED_OUT = 4
    CANCELLED = 5
    LOST = 6
    RELEASED = 7


class CancelCause(IntEnum):
    """Why a task ended as cancelled. Numbers are stored (none for REQUESTED), and equal those of
    hyrex.v1.CancelCause."""

    REQUESTED = 1
    PURGED = 2
    EXPIRED = 3
    SKIPPED = 4
    KEY_BUSY = 6


NOT_IN_TIME: Final = "it did not begin in time"
"""The reason of a task that has expired, as it stands in the statements too."""
HIGHEST_PRIORITY: Final = 10
DEFAULT_PRIORITY: Final = 5


def rank_of(priority: int) -> int:
    """Return the rank of a priority: in ascending order of rank, the highest priority comes first."""
    return HIGHEST_PRIORITY - priority


def priority_of(rank: int) -> int:
    """Return the priority of a rank."""
    return HIGHEST_PRIORITY - rank


@dataclass(frozen=True, slots=True)
class CarriedOptions:
    """Options that the broker stores, shows and gives to the worker, and never reads itself.

    Each is a text or a number, with the same name in the messages, in the table `task` and here. So the
    places between take them from the fields of this class, and name none of them
    (docs/contributing/task-option.md).
    """

    content_type: str | None = None
    codec: str | None = None

    def given(self) -> dict[str, Any]:
        """Those that the task has."""
        if self is NOTHING_CARRIED:
            return {}
        values = {name: getattr(self, name) for name in CARRIED}
        return {name: value for name, value in values.items() if value is not None}


CARRIED: Final = tuple(each.name for each in fields(CarriedOptions))
NOTHING_CARRIED: Final = CarriedOptions()


@dataclass(frozen=True, slots=True)
class Terms:
    """What the tasks of one call site share, validated: all but id, payload, parents, headers and key."""

    name: str
    queue: str
    rank: int
    max_retries: int
    timeout_ms: int | None
    retry_delay_ms: int | None
    extras: "TaskExtras | None"


@dataclass(frozen=True, slots=True)
class TaskExtras:
    """Terms that most tasks do not have."""

    delay_ms: int | None = None
    run_at: datetime | None = None
    carried: CarriedOptions = NOTHING_CARRIED
    labels: dict[str, str] = field(default_factory=dict)
    expires_in_ms: int | None = None
    debounce_key: str | None = None
    debounce_most_ms: int | None = None
    """How long a task waits at most, however often it is sent again."""
    max_per_key: int = 1
    """How many tasks of its concurrency key may run at once."""
    refuses_to_wait: bool = False
    """True: it is refused where its key has no free seat."""
    is_outside: bool = False
    """No worker runs it: a call from outside ends it."""

    @property
    def has_times(self) -> bool:
        """True if a time to wait for was said, be it zero, or one to begin in."""
        return self.delay_ms is not None or self.run_at is not None or self.expires_in_ms is not None


class SubmitOutcome(IntEnum):
    """What became of a submitted task. Numbers equal those of hyrex.v1.SubmitOutcome."""

    STORED = 1
    REPEATED = 2
    DEDUPLICATED = 3


@dataclass(slots=True)
class SubmitAnswer:
    """The answer for one stored (or recognised) task."""

    task_id: TaskId
    outcome: SubmitOutcome


@dataclass(slots=True)
class RunEnd:
    """How one run ended that did not return, as reported by its worker or concluded by a sweeper.

    Those that returned are in an EndBlock."""

    task_id: TaskId
    token: Token
    session_id: SessionId
    """Only a lease of this session is ended."""
    outcome: Outcome
    elapsed_us: int | None = None
    error_type: str | None = None
    error_message: str | None = None
    traceback: str | None = None
    reason: str | None = None
    retryable: bool = True
    retry_delay_ms: int | None = None
    alone: bool = False
    cause: CancelCause | None = None
    """Of a cancelled one: why, if nobody asked for it."""
    error_place: str | None = None
    """Where in the user's code it was raised."""


class Receipt(IntEnum):
    """The answer to one reported run."""

    ACCEPTED = 1
    DUPLICATE = 2
    STALE = 3


@dataclass(slots=True, unsafe_hash=True)
class LeaseRef:
    """A lease, named by its task and fencing token."""

    task_id: TaskId
    token: Token


@dataclass(frozen=True, slots=True)
class CancelOrder:
    """A run that must stop."""

    task_id: TaskId
    token: Token
    session_id: SessionId
    reason: str


class CancelOutcome(IntEnum):
    """What a cancel did. Numbers equal those of hyrex.v1.CancelOutcome."""

    CANCELLED = 1
    REQUESTED = 2
    FINISHED = 3
    NOT_FOUND = 4


class CompleteOutcome(IntEnum):
    """What a call from outside did to one task. Numbers equal those of hyrex.v1.CompleteOutcome."""

    ENDED = 1
    FINISHED = 2
    NOT_WAITING = 3
    NOT_FOUND = 4


@dataclass(frozen=True, slots=True)
class OutsideEnd:
    """How a call from outside ends tasks: completed with a result, or failed with an error."""

    outcome: Outcome
    result: bytes | None = None
    content_type: str | None = None
    error_type: str | None = None
    error_message: str | None = None
    traceback: str | None = None
    reason: str = ""


class DismissOutcome(IntEnum):
    """What a dismissal did to one task. Numbers equal those of hyrex.v1.DismissOutcome."""

    DISMISSED = 1
    NOT_DEAD = 2
    NOT_FOUND = 3
    REFUSED = 4


class RetryOutcome(IntEnum):
    """What a retry did. Numbers equal those of hyrex.v1.RetryOutcome."""

    REQUEUED = 1
    NOT_FINAL = 2
    NOT_FOUND = 3
    EXPIRED = 4
    REFUSED = 5
