"""Schedules: tasks that are stored at the slots of a cron expression. Which slots are due is decided here."""

from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Final

from hyrex.runtime.cron import Cron
from hyrex_broker.domain.keys import KeyedName
from hyrex_broker.domain.model import TaskId

MOST_CAUGHT_UP: Final = 100
"""Of the slots that were missed, `all` makes up for the latest hundred."""
SLOT_HEADER: Final = "hyrex-scheduled-for"
"""The header in which a task's slot travels to its worker, as RFC 3339 in UTC."""
SCHEDULE_LABEL: Final = "hyrex.schedule"
"""The label that names a task's schedule."""


class CatchUp(StrEnum):
    """What is made up for of the slots that passed while no broker ran."""

    LATEST = "latest"
    ALL = "all"


class ScheduleSource(StrEnum):
    """Who wrote a schedule: an operator's word wins over that of code."""

    CODE = "code"
    OPERATOR = "operator"


class Cause(StrEnum):
    """Why a task was stored for a slot."""

    DUE = "due"
    MISSED = "missed"
    BACKFILL = "backfill"
    TRIGGER = "trigger"


@dataclass(frozen=True, slots=True)
class ScheduleOptions:
    """The terms of a schedule's tasks, beside name and queue."""

    rank: int
    max_retries: int
    timeout_ms: int | None = None
    retry_delay_ms: int | None = None
    content_type: str | None = None
    codec: str | None = None
    headers: dict[str, str] = field(default_factory=dict)
    labels: dict[str, str] = field(default_factory=dict)
    expires_in_ms: int | None = None
    """From when a slot's task is stored."""
    concurrency_key: str | None = None
    max_per_key: int = 1
    refuses_to_wait: bool = False
    """Where its concurrency key has no free seat, the slot's task ends at once."""
    fair_key: str | None = None

    @property
    def has_keys(self) -> bool:
        """True if its tasks have keys that decide their lane."""
        return self.concurrency_key is not None or self.fair_key is not None


@dataclass(frozen=True, slots=True)
class ScheduleDefinition:
    """What somebody wants to be stored when, checked."""

    name: str
    task: str
    queue: str
    cron: str
    tz: str
    payload: bytes
    options: ScheduleOptions
    catchup: CatchUp
    jitter_s: int
    source: ScheduleSource
    paused: bool = False
    """For a new one; one that exists stays as it is."""

    @property
    def named(self) -> KeyedName:
        """What decides the lane of its tasks."""
        return KeyedName(self.queue, self.task, self.options.concurrency_key, self.options.fair_key)


@dataclass(frozen=True, slots=True)
class StoredSchedule:
    """A stored schedule."""

    definition: ScheduleDefinition
    next_at: datetime
    last_slot: datetime | None
    last_task_id: TaskId | None
    revision: int
    """How often it was changed."""


@dataclass(frozen=True, slots=True)
class DueSchedule:
    """A schedule that is due, and what it takes to find its slots."""

    name: str
    revision: int
    queue: str
    task: str
    cron: str
    tz: str
    catchup: CatchUp
    jitter_s: int
    next_at: datetime
    size_bytes: int = 0
    """What each of its tasks carries."""
    concurrency_key: str | None = None
    fair_key: str | None = None

    @property
    def named(self) -> KeyedName:
        """What decides the lane of its tasks."""
        return KeyedName(self.queue, self.task, self.concurrency_key, self.fair_key)


@dataclass(frozen=True, slots=True)
class FiredSlot:
    """A slot for which a task was stored."""

    slot: datetime
    task_id: TaskId
    cause: Cause
    stored_at: datetime


def slots_to_fire(due: DueSchedule, cron: Cron, now: datetime) -> list[datetime]:
    """The slots for which tasks are to be stored now, the oldest first.

    The latest one that has passed always; with `all` up to a hundred.
    """
    most = MOST_CAUGHT_UP if due.catchup is CatchUp.ALL else 1
    later = cron.latest(due.next_at, now, most)
    return later if len(later) >= most else [due.next_at, *later]
