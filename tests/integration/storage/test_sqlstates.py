"""Every SQLSTATE has a meaning: what is an item's fault, what passes, what lasts, what is ours."""

import asyncio
import inspect
import logging

import asyncpg
import pytest

from hyrex_broker.domain.errors import StorageUnavailable
from hyrex_broker.storage.pool import Database
from hyrex_broker.storage.sqlstates import MEANINGS, Meaning, StatementRefused, meaning
from tests.integration.storage.conftest import execute
from tests.support.postgres import run_apart
from tests.support.roles import role_of, role_with_few_rights

LASTING = (
    "28000", "28P01", "3D000", "3F000", "42501", "42P01", "42703", "42883", "53000", "53100", "53200",
    "53300", "53400", "58000", "58030", "58P01", "F0000", "XX000", "XX001", "XX002", "0A000", "ZZ999",
    "72000",
)  # fmt: skip
"""Nothing works until somebody mends it; what nobody has heard of counts among them."""
PASSING = ("08000", "08003", "08006", "08P01", "25000", "25P02", "26000", "55000", "57000", "57P01", "57P03")
SLOW = ("55P03", "57014")
ITEMS = ("09000", "21000", "22000", "22021", "22P05", "23502", "23503", "23505", "54000", "P0001", "39000")


@pytest.fixture(scope="module")
def shared_database_url(shared_url: str) -> str:
    return shared_url


async def answered(database: Database, state: str) -> None:
    await database.execute(f"do $$ begin raise exception 'it''s\nso' using errcode = '{state}'; end $$")


@pytest.mark.parametrize("state", [*LASTING, *PASSING, *SLOW, *ITEMS])
async def test_whatever_postgres_answers_has_a_meaning(shared_database_url: str, state: str) -> None:
    database = Database(shared_database_url, hot_connections=1, read_connections=1)
    await database.open()
    changes: list[bool] = []
    database.availability.on_change = changes.append
    try:
        with pytest.raises(StatementRefused if state in ITEMS else StorageUnavailable) as caught:
            await answered(database, state)
        assert "\n" not in str(caught.value) or state in ITEMS
        if isinstance(caught.value, StorageUnavailable):
            assert state in caught.value.message
            assert caught.value.lasts == (state in LASTING)
            assert caught.value.timed_out == (state in SLOW)
        assert changes == ([False] if state in LASTING else [])
        assert (await database.fetch("select 1 as one"))[0]["one"] == 1
    finally:
        await database.close()


def test_every_class_that_asyncpg_knows_is_in_the_table() -> None:
    known = {
        str(found.sqlstate)
        for _, found in inspect.getmembers(asyncpg.exceptions, inspect.isclass)
        if issubclass(found, asyncpg.PostgresError) and found.sqlstate
    }
    success_or_warning = {"00", "01", "02"}
    unheard = {state[:2] for state in known} - {state[:2] for state in MEANINGS} - success_or_warning
    # Of no statement of ours: cursors, savepoints, prepared SQL, locators, foreign data.
    assert unheard <= {
        "03",
        "0B",
        "0F",
        "0L",
        "0P",
        "0Z",
        "10",
        "24",
        "2B",
        "2D",
        "2F",
        "36",
        "3B",
        "72",
        "HV",
    }


def test_a_defect_of_ours_stays_one() -> None:
    assert meaning(asyncpg.PostgresSyntaxError("")) is Meaning.DEFECT


async def test_a_login_that_is_not_accepted_any_more_is_said_once(
    shared_database_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    database = Database(shared_database_url, hot_connections=1, read_connections=1)
    await database.open()
    try:
        for _ in range(50):
            with pytest.raises(StorageUnavailable):
                await answered(database, "28P01")
        assert [record.levelname for record in caplog.records] == ["ERROR"]
        assert database.availability.refuses is not None
        database.availability.accepted()
        assert [record.message for record in caplog.records][1:] == ["the database is back"]
    finally:
        await database.close()


async def test_what_cannot_even_be_encoded_is_the_items_fault(shared_database_url: str) -> None:
    database = Database(shared_database_url, hot_connections=1, read_connections=1)
    await database.open()
    try:
        with pytest.raises(StatementRefused):
            await database.fetch("select $1::integer", 2**40)
    finally:
        await database.close()


async def test_a_server_that_only_reads_loses_its_connections(database_url: str) -> None:
    """After a failover they would answer like that for ever."""
    database = Database(database_url, hot_connections=2, read_connections=1)
    await database.open()
    try:
        before = {await pid(database, vital=vital) for vital in (True, False)}
        with pytest.raises(StorageUnavailable, match="25006"):
            await answered(database, "25006")
        after = {await pid(database, vital=vital) for vital in (True, False)}
        assert not before & after
    finally:
        await database.close()


def test_where_postgres_has_room_for_no_connection_more_those_that_stand_are_waited_for(
    database_url: str,
) -> None:
    with role_with_few_rights(database_url) as url:
        assert run_apart(is_usable_in_a_crowd(url, database_url))


async def is_usable_in_a_crowd(url: str, owner_url: str) -> bool:
    database = Database(url, hot_connections=4, read_connections=1)
    await database.open()
    try:
        await execute(owner_url, f"alter role {role_of(url)} connection limit 3")
        await asyncio.gather(*(database.fetch("select pg_sleep(0.05)") for _ in range(8)))
        return database.availability.usable
    finally:
        await database.close()


async def pid(database: Database, *, vital: bool) -> int:
    (row,) = await database.fetch("select pg_backend_pid()", vital=vital)
    return int(row[0])
