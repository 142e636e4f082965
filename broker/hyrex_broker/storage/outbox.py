"""The outbox: what callers stored in their own transactions. One statement makes tasks of its rows."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final, TypeAlias

import asyncpg

from hyrex_broker.domain.errors import StorageUnavailable
from hyrex_broker.domain.model import LaneId, TaskId
from hyrex_broker.domain.outbox import (
    OPTIONS,
    CommitSnapshot,
    Cursor,
    HeldBack,
    OutboxRow,
    Position,
    RelayedTask,
    SeenRows,
)
from hyrex_broker.storage import partitions
from hyrex_broker.storage.columns import integers
from hyrex_broker.storage.pool import Database
from hyrex_broker.storage.statements import load

_SQL: Final = load("outbox")
_DAYS: Final = load("partitions")
_DAYS_WITHIN: Final = "300ms"
"""So long a row of long ago waits for retention, which takes minutes where it compacts a day."""
_FIRST_DAY: Final = datetime(2024, 1, 1, tzinfo=UTC)


RelayPlace: TypeAlias = tuple[LaneId, int | None]
"""A lane, and the hash of the concurrency key if there is one."""
_Columns: TypeAlias = tuple[list[TaskId], list[LaneId], list[int | None]]


class OutboxStore:
    """Statements of `outbox.sql`. Each raises StorageUnavailable."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self.counters = database.counters

    async def here(self) -> CommitSnapshot:
        """The snapshot of this moment."""
        row = await self._database.fetchrow(_SQL["here"])
        assert row is not None
        return CommitSnapshot.read(row["snapshot"])

    async def look(self, cursor: Cursor, most: int) -> SeenRows[OutboxRow]:
        """Up to so many rows of the transactions that were in progress, and so many of later ones."""
        begins = cursor.begins()
        rows = await self._database.fetch(
            _SQL["look"],
            integers(sorted(cursor.since.running)),
            str(cursor.late.xid),
            cursor.late.row_id,
            str(begins.xid),
            begins.row_id,
            most,
            OPTIONS,
        )
        found = [_row(row) for row in rows if row["id"] is not None]
        return SeenRows(found, CommitSnapshot.read(rows[0]["snapshot"]))

    async def below(self, xid: int) -> int | None:
        """The first transaction below one that has rows left."""
        row = await self._database.fetchrow(_SQL["below"], str(xid))
        return None if row is None else int(row["xid"])

    async def relay(self, rows: Sequence[OutboxRow], places: Sequence[RelayPlace]) -> list[RelayedTask]:
        """Make tasks of rows, which all have keys or none; what was made and may run. Raises
        StatementRefused."""
        placed = sorted(zip([row.row_id for row in rows], places, strict=True))
        sql = _SQL["relay_keyed" if rows[0].has_key else "relay"]
        columns = (
            [row_id for row_id, _ in placed],
            [lane for _, (lane, _) in placed],
            [key_hash for _, (_, key_hash) in placed],
        )
        if is_old(placed[0][0]):
            made = await self._relay_of_old_days(sql, columns)
        else:
            made = await self._database.fetch(sql, *columns)
        return [
            RelayedTask(
                TaskId(str(row["id"])), LaneId(row["lane"]), row["rank"], row["waits"], row["blocked"]
            )
            for row in made
        ]

    async def _relay_of_old_days(self, sql: str, columns: _Columns) -> list[Any]:
        """As `relay`, for rows of days that retention may be removing; nothing while it is: they stay."""
        days = {partitions.day_of_id(row_id): row_id for row_id in columns[0]}
        try:
            async with self._database.transaction() as transaction:
                await transaction.set_local([f"lock_timeout = '{_DAYS_WITHIN}'"])
                await transaction.execute(_SQL["keep_days"])
                for row_id in days.values():
                    await self.made_day(row_id)
                return await transaction.fetch(sql, *columns)
        except StorageUnavailable as error:
            if isinstance(error.__cause__, asyncpg.LockNotAvailableError):
                return []
            raise

    async def hold(self, rows: Sequence[OutboxRow], why: HeldBack, reasons: Sequence[str | None]) -> None:
        """Let rows wait, and say why."""
        told = sorted(zip(rows, reasons, strict=True), key=lambda each: each[0].row_id)
        await self._database.execute(
            _SQL["hold"],
            [row.row_id for row, _ in told],
            [row.queue for row, _ in told],
            [reason for _, reason in told],
            why.value,
        )
        self.counters.held(why.value, len(told))

    async def full_queues(self) -> list[str]:
        """The queues of which rows wait for room."""
        return [row["queue"] for row in await self._database.fetch(_SQL["full_queues"])]

    async def full(self, queue: str, after: TaskId, most: int) -> list[OutboxRow]:
        """Rows that wait for room in a queue, by id."""
        return [
            _row(row, HeldBack.FULL) for row in await self._database.fetch(_SQL["full"], queue, after, most)
        ]

    async def refused(self, after: TaskId, most: int) -> list[OutboxRow]:
        """Rows of which no task could be made, by id."""
        rows = await self._database.fetch(_SQL["refused"], after, most, OPTIONS)
        return [_row(row, HeldBack.REFUSED) for row in rows]

    async def of_ids(self, task_ids: Sequence[TaskId]) -> list[OutboxRow]:
        """Rows by id; others are missing."""
        rows = await self._database.fetch(_SQL["of_ids"], sorted(task_ids), OPTIONS)
        return [_row(row, None if row["held"] is None else HeldBack(row["held"])) for row in rows]

    async def discard(self, task_ids: Sequence[TaskId]) -> set[TaskId]:
        """Remove those of these rows of which no task could be made; which were removed."""
        return {TaskId(str(row["id"])) for row in await self._database.fetch(_SQL["discard"], task_ids)}

    async def made_day(self, row_id: TaskId) -> bool:
        """Make the partitions of an id's day, whose row waited longer than days are kept. False: they are
        there, or nobody enqueued anything on that day."""
        day = partitions.day_of_id(row_id)
        if not _FIRST_DAY <= day <= partitions.day_of(datetime.now(UTC)):
            return False
        parents = partitions.AS_MADE
        made = [await self._database.fetchrow(_DAYS["lacks"], parent, day.date()) for parent in parents]
        for parent in parents:
            await self._database.execute(_DAYS["make"], parent, day.date())
        return any(row is not None and row["lacks"] for row in made)


def is_old(row_id: TaskId) -> bool:
    """Return True if its day may be one that retention removes: it never looks at today's or yesterday's."""
    return partitions.day_of_id(row_id) < partitions.day_of(datetime.now(UTC)) - timedelta(days=1)


def _row(row: Any, held: HeldBack | None = None) -> OutboxRow:
    row_id = TaskId(str(row["id"]))
    return OutboxRow(
        row_id,
        Position(int(row["xid"]), row_id),
        row["is_late"],
        row["task"],
        row["queue"],
        row["size_bytes"],
        row["has_key"],
        row["unknown_option"],
        held,
        row["concurrency_key"],
        row["fair_key"],
        row.get("reason"),
        row["expires"],
        row["unfit"],
    )
