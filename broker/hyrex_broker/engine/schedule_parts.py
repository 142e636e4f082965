"""What is stored together for schedules: the slots of each, as many as one statement may store."""

import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

from hyrex_broker.domain.model import TaskId
from hyrex_broker.domain.schedules import DueSchedule
from hyrex_broker.storage.schedules import Move, SlotTask

MOST_TASKS: Final = 500
"""Of one statement, for its timeout."""
_VERSION: Final = 0x7 << 76
_VARIANT: Final = 0b10 << 62
_RANDOM: Final = random.SystemRandom()


@dataclass(frozen=True, slots=True)
class Firing:
    """What one schedule stores next."""

    due: DueSchedule
    move: Move
    tasks: list[SlotTask]


def parts(firings: Sequence[Firing]) -> Iterable[list[Firing]]:
    """In order, as many together as one statement may store."""
    part: list[Firing] = []
    for firing in firings:
        if part and sum(len(each.tasks) for each in part) + len(firing.tasks) > MOST_TASKS:
            yield part
            part = []
        part.append(firing)
    if part:
        yield part


def with_jitter(slot: datetime, jitter_s: int) -> datetime:
    """When a slot is due."""
    return slot + timedelta(seconds=_RANDOM.uniform(0, jitter_s)) if jitter_s else slot


def new_id(now: datetime) -> TaskId:
    """A new UUIDv7 of a time of the database."""
    milliseconds = int(now.timestamp() * 1000)
    low = _RANDOM.getrandbits(74)
    number = milliseconds << 80 | _VERSION | (low >> 62) << 64 | _VARIANT | low & (1 << 62) - 1
    return TaskId(str(UUID(int=number)))
