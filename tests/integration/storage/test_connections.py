"""Connections at hand: one that was lost meanwhile costs no statement, and all go when the broker goes."""

import asyncio
import time

import pytest

from hyrex_broker.domain.errors import StorageUnavailable
from hyrex_broker.storage.connections import _is_gone
from hyrex_broker.storage.pool import Database
from hyrex_broker.storage.replication import require_replicated
from tests.integration.storage.conftest import execute

CUT = (
    "select count(pg_terminate_backend(pid)) from pg_stat_activity"
    " where datname = current_database() and pid <> pg_backend_pid()"
)


async def test_connections_lost_while_idle_fail_no_statement(database_url: str) -> None:
    database = Database(database_url, hot_connections=3, read_connections=1)
    await database.open()
    try:
        await asyncio.gather(*(database.fetch("select pg_sleep(0.1)") for _ in range(3)))
        await execute(database_url, CUT)
        await until_news_of_it(database)
        for _ in range(3):
            assert (await database.fetch("select 1 as one"))[0]["one"] == 1
    finally:
        await database.close()


async def until_news_of_it(database: Database) -> None:
    """Wait until every connection at hand is known to be lost."""
    async with asyncio.timeout(60):
        while not all(_is_gone(each) for pool in database._pools() for each in pool._at_hand):
            await asyncio.sleep(0.01)


async def test_those_who_wait_get_what_is_given_back(database_url: str) -> None:
    database = Database(database_url, hot_connections=2, read_connections=1)
    await database.open()
    try:
        found = await asyncio.gather(*(database.fetch("select pg_sleep(0.01)") for _ in range(20)))
        assert len(found) == 20
    finally:
        await database.close()


@pytest.mark.alone
async def test_closing_waits_for_a_statement_and_for_nothing_else(database_url: str) -> None:
    database = Database(database_url, hot_connections=2, read_connections=1)
    await database.open()
    await asyncio.gather(*(database.fetch("select pg_sleep(0.05)") for _ in range(2)))
    last = asyncio.create_task(database.fetch("select pg_sleep(0.3)"))
    await asyncio.sleep(0.1)
    began = time.monotonic()
    await database.close()
    assert len(await last) == 1  # it was not cut off
    assert time.monotonic() - began < 1.5


async def test_a_commit_whose_connection_is_closed_in_the_same_moment_counts_as_unanswered(
    database_url: str,
) -> None:
    """As where a new primary is seen, which cuts every connection."""
    database = Database(database_url, hot_connections=1, read_connections=1)
    await database.open()
    try:
        async with database._pools()[0].one() as connection:
            await connection.execute("select 1")
            database.terminate()
            with pytest.raises(StorageUnavailable, match="closed"):
                require_replicated(connection)
    finally:
        await database.close()
