"""Numbered migrations, forward only, under an advisory lock.

A migration expands first and contracts in a later release, so that the previous version's brokers
keep working while this one's start; a broker refuses a schema outside its range.
"""

import re
from dataclasses import dataclass
from importlib.resources import files
from typing import Any, Final

import asyncpg

from broker.domain.errors import SchemaOutOfRange
from broker.storage import partitions
from broker.storage.pool import translated

MINIMUM_POSTGRES: Final = 150000
LOCK_KEY: Final = 0x68797265  # "hyre"


@dataclass(frozen=True, slots=True)
class Migration:
    """One numbered file of broker/storage/migrations."""

    number: int
    name: str
    sql: str


def migrations() -> list[Migration]:
    """All migrations in order."""
    found = []
    for entry in files("broker.storage").joinpath("migrations").iterdir():
        if match := re.fullmatch(r"(\d{4})_(\w+)\.sql", entry.name):
            found.append(Migration(int(match[1]), match[2], entry.read_text()))
    return sorted(found, key=lambda migration: migration.number)


async def migrate(database_url: str) -> int:
    """Bring the database to this version's schema and make today's partitions; return its number.

    Safe to call from several processes at once. Raises StorageUnavailable, or SchemaOutOfRange for a
    Postgres before 15 or a schema newer than this version.
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
    known = migrations()
    await connection.execute("select pg_advisory_lock($1::bigint)", LOCK_KEY)
    try:
        await connection.execute(
            "create table if not exists schema_version"
            " (number integer primary key, name text not null, applied_at timestamptz not null default now())"
        )
        current = await connection.fetchval("select coalesce(max(number), 0) from schema_version")
        if current > known[-1].number:
            raise SchemaOutOfRange(
                f"the database has schema {current}, this broker knows {known[-1].number}: upgrade it"
            )
        for migration in known:
            if migration.number > current:
                async with connection.transaction():
                    await connection.execute(migration.sql)
                    await connection.execute(
                        "insert into schema_version (number, name) values ($1, $2)",
                        migration.number,
                        migration.name,
                    )
        await partitions.ensure(connection)
    finally:
        await connection.execute("select pg_advisory_unlock($1::bigint)", LOCK_KEY)
    return known[-1].number
