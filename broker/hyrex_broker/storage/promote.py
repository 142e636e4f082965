"""Makes delayed tasks ready when they are due."""

from dataclasses import dataclass
from datetime import datetime
from typing import Final

from hyrex_broker.domain.model import LaneId, TaskId
from hyrex_broker.storage.pool import Database
from hyrex_broker.storage.statements import load

_SQL: Final = load("promote")


@dataclass(frozen=True, slots=True)
class Promoted:
    """How many tasks of one (lane, rank) were due, and became ready."""

    lane: LaneId
    rank: int
    last_run_at: datetime
    moved: int
    blocked: list[TaskId]
    """Those that wait for others instead, and must be followed."""


@dataclass(frozen=True, slots=True)
class NextDue:
    """Seconds until the next delayed task (None: there is none), and the database's time."""

    wait_s: float | None
    now: datetime


class PromoteStore:
    """Statements of `promote.sql`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def promote(self, mark: datetime, limit: int) -> list[Promoted]:
        """Move due tasks whose run_at is at or above the mark."""
        rows = await self._database.fetch(_SQL["promote"], mark, limit)
        return [
            Promoted(
                row["lane"],
                row["rank"],
                row["last_run_at"],
                row["moved"],
                [TaskId(str(each)) for each in row["blocked"] or ()],
            )
            for row in rows
        ]

    async def below(self, mark: datetime) -> datetime | None:
        """The run_at of the first delayed task below a mark; None where there is none."""
        row = await self._database.fetchrow(_SQL["due_below"], mark)
        return None if row is None else row["run_at"]

    async def next_due(self, mark: datetime) -> NextDue:
        """When the next one is due."""
        row = await self._database.fetchrow(_SQL["next_due"], mark)
        assert row is not None
        return NextDue(row["wait_s"], row["now"])
