"""What is stored together for schedules: the slots of each, as many as one statement may store."""

import random
import time
from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

from hyrex_broker.domain.errors import BrokerError, InvalidField, StorageUnavailable
from hyrex_broker.domain.model import TaskId
from hyrex_broker.domain.schedules import DueSchedule
from hyrex_broker.engine.batching import BATCH_BYTES
from hyrex_broker.storage.schedule_rows import Move, SlotTask
from hyrex_broker.storage.sqlstates import StatementRefused

MOST_TASKS: Final = 500
"""Of one statement, for its timeout, beside BATCH_BYTES."""
_VERSION: Final = 0x7 << 76
_VARIANT: Final = 0b10 << 62
_RANDOM: Final = random.SystemRandom()
_FOREIGN_FOR_S: Final = 60.0


class ForeignZones:
    """Schedules whose zone this broker does not know: they are left to the others, and looked at again."""

    def __init__(self) -> None:
        self._until: dict[str, float] = {}

    def add(self, name: str) -> None:
        """Leave one out for a while."""
        self._until[name] = time.monotonic() + _FOREIGN_FOR_S

    def now(self) -> list[str]:
        """Those that are left out now."""
        moment = time.monotonic()
        self._until = {name: until for name, until in self._until.items() if until > moment}
        return list(self._until)


@dataclass(frozen=True, slots=True)
class Firing:
    """What one schedule stores next."""

    due: DueSchedule
    move: Move
    tasks: list[SlotTask]

    def first(self, count: int) -> "Firing":
        """Of its oldest slots so many; it goes on with the first that is left."""
        if count >= len(self.tasks):
            return self
        left = self.tasks[count].slot
        return Firing(self.due, replace(self.move, next_at=left, due_at=left), self.tasks[:count])


def at_once(size_bytes: int) -> int:
    """How many tasks of a size one statement may store: one at least."""
    return max(1, min(MOST_TASKS, BATCH_BYTES // max(1, size_bytes)))


def parts(firings: Iterable[Firing]) -> Iterable[list[Firing]]:
    """In order, as many together as one statement may store."""
    part, tasks, size = list[Firing](), 0, 0
    for whole in firings:
        firing = whole.first(at_once(whole.due.size_bytes))
        count = len(firing.tasks)
        if part and (tasks + count > MOST_TASKS or size + count * firing.due.size_bytes > BATCH_BYTES):
            yield part
            part, tasks, size = [], 0, 0
        part.append(firing)
        tasks, size = tasks + count, size + count * firing.due.size_bytes
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


def refusal(name: str, error: StatementRefused) -> BrokerError:
    """What is told where the database refuses a schedule, or its task."""
    if error.lacks_partition:
        return StorageUnavailable("a day has no partition yet; it is being made")
    return InvalidField("schedule", name, f"the database refused it ({error.sqlstate}: {error})")
