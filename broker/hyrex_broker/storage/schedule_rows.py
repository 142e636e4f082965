"""What the statements of `schedules.sql` take and return."""

import hashlib
import json
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from typing import Any

from hyrex_broker.domain.model import LaneId, TaskId
from hyrex_broker.domain.schedules import (
    CatchUp,
    Cause,
    DueSchedule,
    FiredSlot,
    ScheduleDefinition,
    ScheduleOptions,
    ScheduleSource,
    StoredSchedule,
)


@dataclass(frozen=True, slots=True)
class Due:
    """Schedules that are due, and the database's time."""

    schedules: list[DueSchedule]
    now: datetime


@dataclass(frozen=True, slots=True)
class NextSchedule:
    """Seconds until the next schedule is due (None: there is none), and the database's time."""

    wait_s: float | None
    now: datetime


@dataclass(frozen=True, slots=True)
class Move:
    """A schedule's step from one slot to the next; nothing is stored for it if it was edited since."""

    name: str
    revision: int
    seen_at: datetime
    next_at: datetime
    due_at: datetime


@dataclass(frozen=True, slots=True)
class SlotTask:
    """A task to store for a slot."""

    name: str
    slot: datetime
    task_id: TaskId
    lane: LaneId
    cause: Cause
    key_hash: int | None = None


@dataclass(frozen=True, slots=True)
class StoredSlot:
    """A task that was stored for a slot, and where it is ready."""

    name: str
    slot: datetime
    task_id: TaskId
    lane: LaneId
    rank: int
    is_blocked: bool
    """It is not ready yet: it must be followed."""


@dataclass(frozen=True, slots=True)
class Seen:
    """A schedule as it was at a time of the database."""

    schedule: StoredSchedule
    now: datetime


@dataclass(frozen=True, slots=True)
class QueueOfSchedule:
    """The queue of a schedule (None: there is none) at a time of the database."""

    queue: str | None
    now: datetime


@dataclass(frozen=True, slots=True)
class KnownSchedule:
    """A stored schedule, without its payload."""

    _definition: ScheduleDefinition
    _digest: bytes | None
    """SHA-256 of its payload, if that is as long as the one that it is compared with."""

    @property
    def source(self) -> ScheduleSource:
        """Who wrote it."""
        return self._definition.source

    def says(self, wanted: ScheduleDefinition) -> bool:
        """Return True if it says the same. That it is paused or not does not count."""
        same = replace(self._definition, payload=wanted.payload, paused=wanted.paused) == wanted
        return same and self._digest == hashlib.sha256(wanted.payload).digest()


def options_text(options: ScheduleOptions) -> str:
    """Options as JSON. What brokers of earlier versions do not know is there only where it says something."""
    values = asdict(options)
    if options.expires_in_ms is None:
        del values["expires_in_ms"]
    if options.concurrency_key is None:
        for name in ("concurrency_key", "max_per_key", "refuses_to_wait"):
            del values[name]
    if options.fair_key is None:
        del values["fair_key"]
    return json.dumps(values)


def due_of(row: Any) -> DueSchedule:
    """A row of `due`."""
    return DueSchedule(
        row["name"],
        row["revision"],
        row["queue"],
        row["task"],
        row["cron"],
        row["tz"],
        CatchUp(row["catchup"]),
        row["jitter_s"],
        row["next_at"],
        row["size_bytes"],
        row["concurrency_key"],
        row["fair_key"],
    )


def stored_of(row: Any) -> StoredSlot:
    """A row of `fire` or `fire_extra`."""
    task_id = TaskId(str(row["task_id"]))
    return StoredSlot(row["schedule"], row["slot"], task_id, LaneId(row["lane"]), row["rank"], row["blocked"])


def fired_of(row: Any) -> FiredSlot:
    """A row of a slot that has its task."""
    return FiredSlot(row["slot"], TaskId(str(row["task_id"])), Cause(row["cause"]), row["stored_at"])


def schedule_of(row: Any) -> StoredSchedule:
    """A row of a schedule."""
    definition = ScheduleDefinition(
        name=row["name"],
        task=row["task"],
        queue=row["queue"],
        cron=row["cron"],
        tz=row["tz"],
        payload=row["payload"],
        options=ScheduleOptions(**json.loads(row["options"])),
        catchup=CatchUp(row["catchup"]),
        jitter_s=row["jitter_s"],
        source=ScheduleSource(row["source"]),
        paused=row["paused"],
    )
    last = row["last_task_id"]
    return StoredSchedule(
        definition,
        row["next_at"],
        row["last_slot"],
        None if last is None else TaskId(str(last)),
        row["revision"],
    )
