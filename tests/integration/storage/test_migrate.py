"""Migrations: whom a schema serves, and that nobody who runs waits for one who starts."""

import asyncio
import time
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg
import pytest

from hyrex_broker.domain.errors import SchemaOutOfRange, StorageUnavailable
from hyrex_broker.storage import migrate, partitions
from hyrex_broker.storage.migrate import Migration
from tests.integration.storage.stage import Stage
from tests.integration.storage.waits import until_blocked
from tests.support.postgres import connect

pytestmark = pytest.mark.own_database
KNOWN = migrate.migrations()
OWN = KNOWN[-1].number
LATER = Migration(OWN + 1, "later", "alter table task add column later integer", OWN)


async def comes_from_later(connection: Any, number: int, serves_from: int) -> None:
    await connection.execute("insert into schema_version values ($1, 'later', $2)", number, serves_from)


def test_a_migration_serves_brokers_that_there_are_or_were() -> None:
    for migration in KNOWN:
        assert 1 <= migration.serves_from <= migration.number


async def test_a_broker_starts_on_a_later_schema_that_serves_it(storage_url: str, connection: Any) -> None:
    await comes_from_later(connection, OWN + 1, OWN)
    assert await migrate.migrate(storage_url) == OWN + 1


async def test_a_broker_refuses_a_schema_that_serves_it_no_more(storage_url: str, connection: Any) -> None:
    """What one migration has taken away stays away, however kind the ones after it are."""
    await comes_from_later(connection, OWN + 1, OWN + 1)
    await comes_from_later(connection, OWN + 2, OWN)
    told = f"schema {OWN + 2}, which serves brokers from schema {OWN + 1}; this broker knows {OWN}: upgrade"
    with pytest.raises(SchemaOutOfRange, match=told):
        await migrate.migrate(storage_url)


async def test_a_migration_is_stored_with_whom_it_serves(
    storage_url: str, connection: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(migrate, "migrations", lambda: [*KNOWN, LATER])
    assert await migrate.migrate(storage_url) == LATER.number
    monkeypatch.undo()
    assert await migrate.migrate(storage_url) == LATER.number
    row = await connection.fetchrow("select * from schema_version order by number desc limit 1")
    assert (row["number"], row["name"], row["serves_from"]) == (LATER.number, "later", OWN)


@pytest.mark.alone
async def test_submits_go_on_while_a_migration_waits_for_a_lock(
    stage: Stage, connection: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A statement that waits for a whole table holds up everybody behind it."""
    monkeypatch.setattr(migrate, "migrations", lambda: [*KNOWN, LATER])
    monkeypatch.setattr(migrate, "_PAUSE_S", 0.05)
    await stage.lane()
    async with connection.transaction():
        await connection.fetchval("select count(*) from task")
        migrating = asyncio.ensure_future(migrate.migrate(stage.database.url))
        for _ in range(3):
            await until_blocked(connection)
            began = time.monotonic()
            await stage.submitted(3)
            assert time.monotonic() - began < 1
    assert await migrating == LATER.number


async def test_a_migration_that_gets_no_lock_says_what_to_do(
    storage_url: str, connection: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(migrate, "migrations", lambda: [*KNOWN, LATER])
    monkeypatch.setattr(migrate, "PATIENCE_S", 0.0)
    async with connection.transaction():
        await connection.fetchval("select count(*) from task")
        told = f"migration {LATER.number} got no lock .* end the transactions"
        with pytest.raises(StorageUnavailable, match=told):
            await migrate.migrate(storage_url)
    monkeypatch.undo()
    assert await migrate.migrate(storage_url) == OWN


async def test_who_waits_to_migrate_does_not_hold_up_the_drop_of_a_partition(
    storage_url: str, connection: Any
) -> None:
    """A detach waits for every older snapshot, that of a waiting statement included: they would wait for
    each other."""
    day = partitions.day_of(datetime.now(UTC)) - timedelta(days=20)
    await partitions._ensure_one(connection, "task", day)
    await migrate.exclude_others(connection)
    migrating = asyncio.ensure_future(migrate.migrate(storage_url))
    await until_it_waits(connection)
    await half_detached(storage_url, f"task_{day:%Y%m%d}")
    await partitions.drop(connection, day)
    await connection.execute(migrate._SQL["admit_others"])
    assert await migrating == OWN


async def until_it_waits(connection: Any) -> None:
    """Wait until another process asks for its turn."""
    async with asyncio.timeout(60):
        while not await connection.fetchval(
            "select count(*) from pg_stat_activity where datname = current_database()"
            " and pid <> pg_backend_pid() and query like '%advisory_lock%'"
        ):
            await asyncio.sleep(0.005)


async def half_detached(url: str, name: str) -> None:
    """Let a detach commit its first half and stop there."""
    reader, detaching = [await connect(url) for _ in range(2)]
    try:
        async with reader.transaction():
            await reader.fetchval("select count(*) from task")
            await detaching.execute("set lock_timeout = '100ms'")
            with pytest.raises(asyncpg.LockNotAvailableError):
                await detaching.execute(f"alter table task detach partition {name} concurrently")
    finally:
        for each in (reader, detaching):
            await each.close()
