"""Schedules as brokers know them, as values."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal

__all__ = ["CatchUp", "Schedule", "ScheduleSlot"]

CatchUp = Literal["latest", "all"]


@dataclass(frozen=True, slots=True)
class Schedule:
    """A schedule as a broker knows it. Times are in UTC."""

    name: str
    task_name: str
    queue: str
    cron: str
    tz: str
    catch_up: CatchUp
    jitter: timedelta
    paused: bool
    source: Literal["code", "operator"]
    """Who wrote it; what an operator or `put` wrote, code does not change."""
    next_at: datetime
    next_slots: tuple[datetime, ...]
    """The next three; none of a paused one."""
    last_slot: datetime | None
    last_task_id: str


@dataclass(frozen=True, slots=True)
class ScheduleSlot:
    """A slot, and the id of its task; empty where it has none."""

    slot: datetime
    task_id: str
