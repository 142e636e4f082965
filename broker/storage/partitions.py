"""Partitions of `task` and `task_run`: one per day of the time inside the task's id (UTC).

Made by LIKE + ATTACH and removed by DETACH CONCURRENTLY + DROP: plain CREATE or DROP of a partition
locks the parent and stalls submits (rule 12).
"""

import logging
from datetime import UTC, datetime, timedelta
from typing import Any, Final
from uuid import UUID

import asyncpg

log = logging.getLogger(__name__)

DAYS_BEHIND: Final = 2
DAYS_AHEAD: Final = 3
PARENTS: Final = (("task", "id"), ("task_run", "task_id"))
_DAY: Final = timedelta(days=1)


def lower_bound(day: datetime) -> UUID:
    """The smallest UUIDv7-like id of a moment: 48 bits of Unix milliseconds, then zeros."""
    return UUID(int=int(day.timestamp() * 1000) << 80)


def day_of(moment: datetime) -> datetime:
    """Midnight (UTC) of a moment's day."""
    return moment.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)


async def ensure(connection: Any) -> None:
    """Make the partitions around today. Call under the migration lock."""
    today = day_of(await connection.fetchval("select now()"))
    for offset in range(-DAYS_BEHIND, DAYS_AHEAD + 1):
        day = today + offset * _DAY
        for parent, _ in PARENTS:
            await _ensure_one(connection, parent, day)


async def _ensure_one(connection: Any, parent: str, day: datetime) -> None:
    name = f"{parent}_{day:%Y%m%d}"
    if await connection.fetchval("select to_regclass($1)", name) is not None:
        return
    async with connection.transaction():
        await connection.execute("set local lock_timeout = '2s'")
        await connection.execute(f"create table {name} (like {parent} including all)")
        await connection.execute(
            f"alter table {parent} attach partition {name}"
            f" for values from ('{lower_bound(day)}') to ('{lower_bound(day + _DAY)}')"
        )


async def expired(connection: Any, retention: timedelta) -> list[datetime]:
    """Days whose partitions are past retention and hold no task that still lives."""
    now = await connection.fetchval("select now()")
    rows = await connection.fetch(
        "select c.relname from pg_inherits i join pg_class c on c.oid = i.inhrelid"
        " where i.inhparent = 'task'::regclass order by 1"
    )
    days = [datetime.strptime(row["relname"].rsplit("_", 1)[1], "%Y%m%d").replace(tzinfo=UTC) for row in rows]
    limit = min(day_of(now) - DAYS_BEHIND * _DAY, now - retention - _DAY)
    return [day for day in days if day <= limit and not await _lives(connection, day)]


async def _lives(connection: Any, day: datetime) -> bool:
    first, last = lower_bound(day), lower_bound(day + _DAY)
    return bool(
        await connection.fetchval(
            "select exists (select from ready where task_id >= $1 and task_id < $2)"
            " or exists (select from delayed where task_id >= $1 and task_id < $2)"
            " or exists (select from lease where task_id >= $1 and task_id < $2)",
            first,
            last,
        )
    )


async def drop(connection: Any, day: datetime) -> None:
    """Remove one day's tasks, runs and keys."""
    await connection.execute("set lock_timeout = '2s'")
    # `task` goes last: an interrupted drop is found again by its partition.
    for parent, _ in reversed(PARENTS):
        name = f"{parent}_{day:%Y%m%d}"
        if await connection.fetchval("select to_regclass($1)", name) is None:
            continue
        try:
            await connection.execute(f"alter table {parent} detach partition {name} concurrently")
        except asyncpg.ObjectNotInPrerequisiteStateError:
            # An earlier detach was interrupted half-way.
            await connection.execute(f"alter table {parent} detach partition {name} finalize")
        await connection.execute(f"drop table {name}")
    bound = lower_bound(day + _DAY)
    await connection.execute("delete from idempotency where task_id < $1", bound)
    await connection.execute("delete from reopen where task_id < $1", bound)
    log.info("partition dropped", extra={"day": f"{day:%Y-%m-%d}"})
