"""Numbered migrations, forward only, one process at a time.

A migration expands first and contracts in a later release. The head of its file says which brokers it
still serves: those that know at least the schema of that number. So the previous version's brokers keep
working, and may be started, while this one's start; a broker refuses a schema that does not serve it.

Running brokers never wait for one that starts. A statement that waits for a table's lock delays all
statements behind it, so a migration gives up its wait after a moment and tries again. So does a process that
waits to migrate, since the snapshot of a waiting statement would delay the drop of a partition.
"""

import asyncio
import logging
import re
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from importlib.resources import files
from typing import Any, Final

import asyncpg

from hyrex_broker.domain.errors import SchemaOutOfRange, StorageUnavailable
from hyrex_broker.storage import grants, partitions
from hyrex_broker.storage.connect import DEFAULT_SCHEMA, Connector, Timeouts, connector_of
from hyrex_broker.storage.settings import UPKEEP_SETTINGS
from hyrex_broker.storage.sqlstates import translated
from hyrex_broker.storage.statements import load

log = logging.getLogger(__name__)

MINIMUM_POSTGRES: Final = 150000
PATIENCE_S: Final = 60.0
EXCLUDE_WITHIN_S: Final = 300.0
_PAUSE_S: Final = 1.0
_LOOK_EVERY_S: Final = 0.1
_LOOK_WITHIN_S: Final = 10.0
"""A migration may take minutes, a look at what there is may not: the server may be silent."""
# How long statements of running brokers may be delayed; they are cancelled after 2.5 s.
_LOCK_TIMEOUT: Final = "300ms"
_STAND_BACK: Final = (asyncpg.LockNotAvailableError, asyncpg.DeadlockDetectedError)
_TIMEOUTS: Final = Timeouts(connect_s=10, command_s=300)
_SQL: Final = load("schema")
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


async def migrate(
    database: str | Connector,
    schema: str = DEFAULT_SCHEMA,
    *,
    grant_to: str | None = None,
    enqueue: grants.EnqueueGrants | None = None,
) -> int:
    """Bring a schema of the database to this version and make today's partitions; return its number, which
    is higher than this version's where a later one has been here. `grant_to`: a role for brokers.
    `enqueue`: who may enqueue by SQL.

    A schema that is current is only looked at, so a broker's role need not be allowed to change it.
    Safe to call from several processes at once, and while brokers run. Raises StorageUnavailable, or
    SchemaOutOfRange for a database or schema that does not serve this version.
    """
    with translated():
        connection = await connector_of(database, schema).connect(UPKEEP_SETTINGS, _TIMEOUTS)
        try:
            number = await _migrate(connection, schema)
            if grant_to is not None:
                await grants.grant(connection, schema, grant_to)
            if enqueue is not None:
                await grants.grant_enqueue(connection, schema, enqueue)
            return number
        finally:
            await connection.close()


async def _migrate(connection: Any, schema: str = DEFAULT_SCHEMA) -> int:
    version = int(await connection.fetchval("show server_version_num", timeout=_LOOK_WITHIN_S))
    if version < MINIMUM_POSTGRES:
        raise SchemaOutOfRange(
            f"Postgres {version // 10000} is too old: Hyrex needs Postgres 15 or newer; upgrade it or point"
            " HYREX_DATABASE_URL elsewhere"
        )
    await _require_utf8(connection)
    await exclude_others(connection)
    try:
        with _explained(schema, await connection.fetchval("select current_user", timeout=_LOOK_WITHIN_S)):
            return await _bring_up(connection, schema)
    finally:
        await admit_others(connection)


async def _bring_up(connection: Any, schema: str) -> int:
    known = migrations()
    found = await connection.fetchrow(_SQL["found"], schema, timeout=_LOOK_WITHIN_S)
    current = await _current(connection, found, schema, known[-1].number)
    if current < known[-1].number and not found["has_versions"]:
        await _begin(connection, found, schema)
    for migration in known:
        if migration.number > current:
            await _patiently(f"migration {migration.number}", partial(_apply, connection, migration))
    await _patiently("the making of partitions", partial(partitions.ensure, connection))
    return max(current, known[-1].number)


async def _require_utf8(connection: Any) -> None:
    encoding = await connection.fetchval("show server_encoding", timeout=_LOOK_WITHIN_S)
    if encoding != "UTF8":
        raise SchemaOutOfRange(
            f"the database has encoding {encoding}: names and errors of tasks may have any character, so"
            " Hyrex needs UTF8; make one with: create database ... encoding 'UTF8' template template0"
        )


@contextmanager
def _explained(schema: str, role: str) -> Iterator[None]:
    """Explain an error for missing rights, with the remedy."""
    try:
        yield
    except asyncpg.InsufficientPrivilegeError as error:
        raise SchemaOutOfRange(
            f"role {role} may not do what this start needs in schema {schema} ({error}); run `hyrex migrate"
            f" --grant-to {role}` as a role that may: it makes the schema and gives {role} what brokers need"
        ) from error


async def _begin(connection: Any, found: Any, schema: str) -> None:
    """Make the schema, and where its versions are kept."""
    for other in found["others"]:
        log.warning("this database has a Hyrex in schema %s; a new, empty one is made in %s", other, schema)
    if not found["exists"]:
        await connection.execute(f'create schema if not exists "{schema}"')
    await connection.execute(_SQL["make_versions"])


async def exclude_others(connection: Any) -> None:
    """Exclude all others that migrate or maintain this schema. Raises StorageUnavailable."""
    deadline = time.monotonic() + EXCLUDE_WITHIN_S
    while not await connection.fetchval(_SQL["try_to_exclude_others"], timeout=_LOOK_WITHIN_S):
        if time.monotonic() > deadline:
            raise StorageUnavailable(
                f"another process has been migrating this database for {EXCLUDE_WITHIN_S:.0f} s; wait for it,"
                " or end it"
            )
        await asyncio.sleep(_LOOK_EVERY_S)


async def admit_others(connection: Any) -> None:
    """End what `exclude_others` began."""
    await connection.execute(_SQL["admit_others"])


async def _current(connection: Any, found: Any, schema: str, own: int) -> int:
    """The schema's number, 0 if there is none yet. Raises SchemaOutOfRange if it does not serve brokers of
    `own`, or has tables that are not Hyrex's."""
    if found["exists"] and not found["usable"]:
        raise asyncpg.InsufficientPrivilegeError(f"permission denied for schema {schema}")
    if found["foreign"] is not None:
        raise SchemaOutOfRange(
            f"schema {schema} has a table {found['foreign']!r} that is not Hyrex's; give Hyrex a schema of"
            " its own with --schema or HYREX_SCHEMA"
        )
    if not found["has_versions"]:
        return 0
    row = await connection.fetchrow(_SQL["current"], timeout=_LOOK_WITHIN_S)
    current, serves_from = int(row["number"]), int(row["serves_from"])
    if not current and found["has_tables"]:
        raise SchemaOutOfRange(
            f"schema {schema} has Hyrex's tables, but its table schema_version is empty, so nobody can tell"
            " which version they are of; restore that table from a backup, or name another schema"
        )
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
