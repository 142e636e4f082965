"""Ends tasks that wait though their time to begin is over."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from hyrex_broker.domain.model import LaneId, TaskId
from hyrex_broker.storage.pool import Database
from hyrex_broker.storage.promote import NextDue
from hyrex_broker.storage.statements import load

_SQL: Final = load("expiry")


@dataclass(frozen=True, slots=True)
class Swept:
    """The tasks that ended, and up to when was looked; None: at nothing."""

    ended: Sequence[TaskId]
    last_look: datetime | None
    lanes: Sequence[LaneId] = ()
    """Those of the tasks, in their order."""
    keys: Sequence[int] = ()
    """Concurrency keys that some of them waited for."""


class ExpiryStore:
    """Statements of `expiry.sql`. Each method raises StorageUnavailable."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def sweep(self, mark: datetime, limit: int) -> Swept:
        """End tasks whose time is over and that wait; from a low-water mark on. Raises StatementRefused."""
        first, *rows = await self._database.fetch(_SQL["sweep"], mark, limit)
        self._database.counters.cancelled(Counter(row["lane"] for row in rows))
        return Swept(
            [TaskId(str(row["task_id"])) for row in rows],
            first["last_look"],
            [row["lane"] for row in rows],
            [row["key"] for row in rows if row["key"] is not None],
        )

    async def put_off(self, mark: datetime) -> tuple[TaskId, datetime] | None:
        """Look at the first task that is due in a minute again; it, and when it was due."""
        row = await self._database.fetchrow(_SQL["put_off"], mark)
        return None if row is None else (TaskId(str(row["task_id"])), row["look_at"])

    async def below(self, mark: datetime) -> datetime | None:
        """When the first look below a mark is due; None where there is none."""
        row = await self._database.fetchrow(_SQL["due_below"], mark)
        return None if row is None else row["look_at"]

    async def next_due(self, mark: datetime) -> NextDue:
        """When the next look is due."""
        row = await self._database.fetchrow(_SQL["next_due"], mark)
        assert row is not None
        return NextDue(row["wait_s"], row["now"])
