"""Partitions of `task` and `task_run`: one per day of the time inside the task's id (UTC).

Made by LIKE + ATTACH and removed by DETACH CONCURRENTLY + DROP: plain CREATE or DROP of a partition
locks the parent and stalls submits (rule 12). Only the owner of the tables may do either, so both are also
functions with the owner's rights (migrations/0001_first.sql), for brokers whose role owns nothing.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final
from uuid import UUID

from hyrex_broker.storage.statements import load

log = logging.getLogger(__name__)

DAYS_BEHIND: Final = 2
DAYS_AHEAD: Final = 3
_AROUND: Final = range(-DAYS_BEHIND, DAYS_AHEAD + 1)
FORGET_CHUNK: Final = 10_000
PARENTS: Final = (("task", "id"), ("task_run", "task_id"))
AS_MADE: Final = tuple(parent for parent, _ in reversed(PARENTS))
"""`task` comes last: a task that can be stored can be ended."""
_DAY: Final = timedelta(days=1)
STATISTICS: Final = {"stat": 1, "stat_5min": 30}
"""Tables of what brokers counted, by the day, and how many days they are kept."""
_SQL: Final = load("partitions")


def lower_bound(day: datetime) -> UUID:
    """The smallest UUIDv7-like id of a moment: 48 bits of Unix milliseconds, then zeros."""
    return UUID(int=int(day.timestamp() * 1000) << 80)


def day_of(moment: datetime) -> datetime:
    """Midnight (UTC) of a moment's day."""
    return moment.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)


def day_of_id(task_id: str) -> datetime:
    """Midnight (UTC) of the day of an id."""
    return day_of(datetime.fromtimestamp((UUID(task_id).int >> 80) / 1000, UTC))


async def ensure(connection: Any) -> None:
    """Make the partitions around today. Call under the migration lock.

    Ids are made and accepted by other clocks than the database's; if these differ by days, partitions are
    made for the days of both.
    """
    todays = {day_of(await connection.fetchval("select now()")), day_of(datetime.now(UTC))}
    for day in sorted({today + offset * _DAY for today in todays for offset in _AROUND}):
        for parent in (*STATISTICS, *AS_MADE):
            await _ensure_one(connection, parent, day)


def is_near(task_id: str) -> bool:
    """Return True if the day of an id is one of those that `ensure` makes by this machine's clock."""
    return (day_of_id(task_id) - day_of(datetime.now(UTC))) // _DAY in _AROUND


async def _ensure_one(connection: Any, parent: str, day: datetime) -> None:
    if await connection.fetchval(_SQL["lacks"], parent, day.date()):
        await connection.execute(_SQL["make"], parent, day.date())


async def interrupted(connection: Any, retention: timedelta) -> list[datetime]:
    """Days past retention whose removal has begun and was interrupted, in the order in which it can go on."""
    limit = await _limit(connection, retention)
    days = await _days(connection)
    # An interrupted detach must be completed before any other partition can be detached, so it comes first.
    detaching = [day for day, tables in days.items() if any(table.detaching for table in tables)]
    return detaching + [
        day for day, tables in days.items() if day <= limit and day not in detaching and not _is_whole(tables)
    ]


async def past(connection: Any, retention: timedelta) -> list[datetime]:
    """Whole days past retention, the oldest first."""
    limit = await _limit(connection, retention)
    return [day for day, tables in (await _days(connection)).items() if day <= limit and _is_whole(tables)]


async def age(connection: Any, day: datetime) -> timedelta:
    """For how long a day has been over."""
    return await moment(connection) - day - _DAY


async def _limit(connection: Any, retention: timedelta) -> datetime:
    """The last moment at which a day may have begun that is past retention."""
    now = await moment(connection)
    return min(day_of(now) - DAYS_BEHIND * _DAY, now - retention - _DAY)


async def moment(connection: Any) -> datetime:
    """The earlier time of two clocks, the database's and this process's: by one that jumped ahead, days in
    which tasks are stored now would be long ago."""
    now: datetime = min(await connection.fetchval("select now()"), datetime.now(UTC))
    return now


@dataclass(frozen=True, slots=True)
class _Table:
    """A day's table of one parent: `attached` to it, perhaps with a detach that was interrupted half-way."""

    name: str
    attached: bool
    detaching: bool


async def _days(connection: Any) -> dict[datetime, list[_Table]]:
    """Every day's tables, the oldest day first."""
    found: dict[datetime, list[_Table]] = {}
    for row in await connection.fetch(_SQL["tables"]):
        day = _day_in(row["name"])
        if day is not None:
            found.setdefault(day, []).append(_Table(row["name"], row["attached"], row["detaching"]))
    return dict(sorted(found.items()))


def _day_in(name: str) -> datetime | None:
    """The day in a table's name; None if its digits are no date, so that it is not one of Hyrex's."""
    try:
        return datetime.strptime(name.rsplit("_", 1)[1], "%Y%m%d").replace(tzinfo=UTC)
    except ValueError:
        return None


def _is_whole(tables: Sequence[_Table]) -> bool:
    """Return True if nothing has begun to remove the day."""
    return len(tables) == len(PARENTS) and all(table.attached and not table.detaching for table in tables)


async def lives(connection: Any, day: datetime) -> bool:
    """Return True if a task of a day lives."""
    return bool(await connection.fetchval(_SQL["lives"], lower_bound(day), lower_bound(day + _DAY)))


async def holds_any(connection: Any, day: datetime) -> bool:
    """Return True if a task of a day is stored."""
    return bool(await connection.fetchval(_SQL["holds_any"], lower_bound(day), lower_bound(day + _DAY)))


async def drop(connection: Any, day: datetime) -> None:
    """Remove one day's keys, runs and tasks. Where it is interrupted, the day is found again and the
    removal goes on from there. Raises LockNotAvailableError where others hold the locks for too long."""
    await connection.execute("set lock_timeout = '2s'")
    # Keys are removed first: a key without its task would name a task that does not exist.
    for name in ("forget_keys", "forget_debounce_keys"):
        await forget(connection, _SQL[name], day)
    tables = (await _days(connection)).get(day, [])
    if _is_whole(tables) and await lives(connection, day):
        # One of its tasks was retried meanwhile; so it must still be known which ends were reopened.
        return
    # `task` is removed last: an interruption may leave tasks without runs, but no runs without their tasks.
    for parent, _ in reversed(PARENTS):
        if parent == "task":
            for name in ("forget_reopenings", "forget_dismissals"):
                await forget(connection, _SQL[name], day)
        for table in tables:
            if table.name == f"{parent}_{day:%Y%m%d}":
                await _remove(connection, parent, table)
    log.info("partition dropped", extra={"day": f"{day:%Y-%m-%d}"})


async def drop_statistics(connection: Any) -> None:
    """Remove the days of statistics that are kept no longer. Raises LockNotAvailableError."""
    today = day_of(await connection.fetchval("select now()"))
    for row in await connection.fetch(_SQL["statistics"]):
        parent, day = row["parent"], _day_in(row["name"])
        # A day is over when the next one begins, and is kept from then on.
        if day is not None and day + _DAY * (STATISTICS[parent] + 1) <= today:
            while await connection.fetchval(_SQL["remove"], parent, f"{day:%Y%m%d}"):
                pass


async def forget(connection: Any, sql: str, day: datetime) -> None:
    """Delete rows about a day's tasks chunk by chunk, each committed: a busy day has millions of them. `sql`:
    deletes from an id on, up to another one, so many; returns the highest id met (None: none is left)."""
    first: UUID | None = lower_bound(day)
    while first is not None:
        # From the last id on, so that no chunk reads the dead rows of those before it.
        first = await connection.fetchval(sql, first, lower_bound(day + _DAY), FORGET_CHUNK)


async def _remove(connection: Any, parent: str, table: _Table) -> None:
    if not await connection.fetchval(_SQL["is_mine"], parent):
        # A broker's role: the owner's function does it, with a short lock instead of none.
        while await connection.fetchval(_SQL["remove"], parent, table.name[-8:]):
            pass
        return
    if table.detaching:
        await connection.execute(f"alter table {parent} detach partition {table.name} finalize")
    elif table.attached:
        await connection.execute(f"alter table {parent} detach partition {table.name} concurrently")
    await connection.execute(f"drop table {table.name}")
