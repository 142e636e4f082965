"""Numbered migrations, forward only, one process at a time.

A migration expands first and contracts in a later release. The head of its file says which brokers it
still serves: those that know at least the schema of that number. So the previous version's brokers keep
working, and may be started, while this one's start; a broker refuses a schema that does not serve it.

Nobody who runs waits for one who starts: a statement that queues for a table's lock holds up everything
behind it, so a migration stands back and tries again, and so does whoever waits for his turn (a waiting
statement's snapshot would hold up the drop of a partition).
"""

import asyncio
import logging
import re
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from importlib.resources import files
from typing import Any, Final

import asyncpg

from hyrex_broker.domain.errors import SchemaOutOfRange, StorageUnavailable
from hyrex_broker.storage import partitions
from hyrex_broker.storage.pool import translated

log = logging.getLogger(__name__)

MINIMUM_POSTGRES: Final = 150000
LOCK_KEY: Final = 0x68797265  # "hyre"
PATIENCE_S: Final = 60.0
TURN_WITHIN_S: Final = 300.0
_PAUSE_S: Final = 1.0
_LOOK_EVERY_S: Final = 0.1
# How long a running broker's statements may be held up; they are cut off after 2.5 s.
_LOCK_TIMEOUT: Final = "300ms"
_STAND_BACK: Final = (asyncpg.LockNotAvailableError, asyncpg.DeadlockDetectedError)
_SERVES: Final = re.compile(r"^-- serves brokers from: (\d+)$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Migration:
    """One numbered file of storage/migrations. Brokers that know the schema `serves_from`, or a
    later one, may run on what it makes."""

    number: int
    name: str
    sql: str
    serves_from: int


def migrations() -> list[Migration]:
    """All migrations in order."""
    found = []
    for entry in files("hyrex_broker.storage").joinpath("migrations").iterdir():
        if match := re.fullmatch(r"(\d{4})_(\w+)\.sql", entry.name):
            sql = entry.read_text()
            serves = _SERVES.search(sql)
            assert serves is not None, f"{entry.name} does not say which brokers it serves"
            found.append(Migration(int(match[1]), match[2], sql, int(serves[1])))
    return sorted(found, key=lambda migration: migration.number)


async def migrate(database_url: str) -> int:
    """Bring the database to this version's schema and make today's partitions; return the schema's number,
    which is higher than this version's where a later one has been here.

    Safe to call from several processes at once, and while brokers run. Raises StorageUnavailable, or
    SchemaOutOfRange for a Postgres before 15 or a schema that does not serve this version any more.
    """
    with translated():
        connection = await asyncpg.connect(database_url, timeout=10, command_timeout=300)
        try:
            return await _migrate(connection)
        finally:
            await connection.close()


async def _migrate(connection: Any) -> int:
    version = int(await connection.fetchval("show server_version_num"))
    if version < MINIMUM_POSTGRES:
        raise SchemaOutOfRange(
            f"Postgres {version // 10000} is too old: Hyrex needs Postgres 15 or newer; upgrade it or point"
            " HYREX_DATABASE_URL elsewhere"
        )
    await _take_turn(connection)
    try:
        await connection.execute(
            "create table if not exists schema_version"
            " (number integer primary key, name text not null, serves_from integer not null,"
            " applied_at timestamptz not null default now())"
        )
        known = migrations()
        current = await _current(connection, known[-1].number)
        for migration in known:
            if migration.number > current:
                await _patiently(f"migration {migration.number}", partial(_apply, connection, migration))
        await _patiently("the making of partitions", partial(partitions.ensure, connection))
    finally:
        await connection.execute("select pg_advisory_unlock($1::bigint)", LOCK_KEY)
    return max(current, known[-1].number)


async def _take_turn(connection: Any) -> None:
    deadline = time.monotonic() + TURN_WITHIN_S
    while not await connection.fetchval("select pg_try_advisory_lock($1::bigint)", LOCK_KEY):
        if time.monotonic() > deadline:
            raise StorageUnavailable(
                f"another process has been migrating this database for {TURN_WITHIN_S:.0f} s; wait for it,"
                " or end it"
            )
        await asyncio.sleep(_LOOK_EVERY_S)


async def _current(connection: Any, own: int) -> int:
    """The database's schema. Raises SchemaOutOfRange if it does not serve brokers of `own`."""
    row = await connection.fetchrow(
        "select coalesce(max(number), 0) as number, coalesce(max(serves_from), 0) as serves_from"
        " from schema_version"
    )
    current, serves_from = int(row["number"]), int(row["serves_from"])
    if serves_from > own:
        raise SchemaOutOfRange(
            f"the database has schema {current}, which serves brokers from schema {serves_from}; this broker"
            f" knows {own}: upgrade it"
        )
    if current > own:
        log.warning("the schema is newer than this broker", extra={"schema": current, "known": own})
    return current


async def _patiently(what: str, step: Callable[[], Awaitable[None]]) -> None:
    """Repeat a step until it gets its locks. Raises StorageUnavailable when that takes too long."""
    deadline = time.monotonic() + PATIENCE_S
    while True:
        try:
            await step()
        except _STAND_BACK as error:
            if time.monotonic() > deadline:
                raise StorageUnavailable(
                    f"{what} got no lock within {PATIENCE_S:.0f} s ({error}); end the transactions that have"
                    " been open for long (pg_stat_activity), then start again"
                ) from error
            log.warning("a lock is held by others; trying again", extra={"step": what})
            await asyncio.sleep(_PAUSE_S)
        else:
            return


async def _apply(connection: Any, migration: Migration) -> None:
    async with connection.transaction():
        await connection.execute(f"set local lock_timeout = '{_LOCK_TIMEOUT}'")
        await connection.execute(migration.sql)
        await connection.execute(
            "insert into schema_version (number, name, serves_from) values ($1, $2, $3)",
            migration.number,
            migration.name,
            migration.serves_from,
        )
