"""What the rules rest on is set by the broker for its own sessions, whatever else is preferred."""

import asyncio
from collections.abc import Iterator
from typing import Any, Final
from urllib.parse import urlsplit

import pytest

from hyrex_broker.domain.errors import SchemaOutOfRange, StorageUnavailable
from hyrex_broker.domain.rates import DeclaredLimit
from hyrex_broker.storage import preflight
from hyrex_broker.storage.connect import Connector, Timeouts
from hyrex_broker.storage.migrate import migrate
from hyrex_broker.storage.pool import Database
from hyrex_broker.storage.settings import (
    CHANNEL_SETTINGS,
    HOT_SETTINGS,
    READ_SETTINGS,
    UPKEEP_SETTINGS,
    prepare,
)
from tests.integration.storage.conftest import execute
from tests.integration.storage.stage import Stage, new_task
from tests.integration.storage.waits import until_blocked
from tests.support.postgres import run_apart, with_database

pytestmark = pytest.mark.own_database
SCHEMA: Final = "hyrex"
TIMEOUTS: Final = Timeouts(5, 10)
PREFERRED: Final = {
    "array_nulls": "off",
    "bytea_output": "escape",
    "client_encoding": "LATIN1",
    "client_min_messages": "error",
    "DateStyle": "German, DMY",
    "default_transaction_deferrable": "on",
    "default_transaction_isolation": "serializable",
    "enable_bitmapscan": "on",
    "enable_hashjoin": "on",
    "enable_indexscan": "off",
    "enable_mergejoin": "on",
    "enable_nestloop": "off",
    "enable_partition_pruning": "off",
    "enable_seqscan": "on",
    "enable_tidscan": "off",
    "extra_float_digits": "-15",
    "idle_in_transaction_session_timeout": "1d",
    "idle_session_timeout": "1d",
    "IntervalStyle": "sql_standard",
    "jit": "on",
    "lock_timeout": "1ms",
    "plan_cache_mode": "force_custom_plan",
    "random_page_cost": "100000",
    "search_path": "pg_catalog",
    "standard_conforming_strings": "off",
    "statement_timeout": "1d",
    "synchronous_commit": "off",
    "TimeZone": "Pacific/Kiritimati",
    "transaction_timeout": "1d",
    "transform_null_equals": "on",
}
"""Each of them would break something."""
PLANNERS_OWN: Final = {
    "enable_bitmapscan", "enable_hashjoin", "enable_mergejoin", "enable_seqscan", "random_page_cost",
}  # fmt: skip
"""What only the hot statements do without, and what operators tune for the others."""


async def prefer(url: str, **preferences: str) -> None:
    """Make them the values of new sessions of this database, stronger than the role's."""
    name = urlsplit(url).path.removeprefix("/")
    role = urlsplit(url).username
    await execute(
        url,
        *(
            f"alter role {role} in database \"{name}\" set {key} = '{value}'"
            for key, value in preferences.items()
        ),
    )


@pytest.mark.parametrize("settings", [HOT_SETTINGS, READ_SETTINGS, CHANNEL_SETTINGS, UPKEEP_SETTINGS])
async def test_no_preference_of_the_database_reaches_a_session(
    storage_url: str, settings: dict[str, str]
) -> None:
    await prefer(storage_url, **PREFERRED)
    connection = await Connector(storage_url, SCHEMA).connect(settings, TIMEOUTS)
    try:
        kept = {name: await connection.fetchval(f"show {name}") for name in PREFERRED}
    finally:
        await connection.close()
    same = {name for name, value in kept.items() if value == PREFERRED[name]}
    assert same == (set() if settings is HOT_SETTINGS else PLANNERS_OWN)
    assert kept["default_transaction_isolation"] == "read committed"
    assert (kept["lock_timeout"], kept["search_path"]) == ("0", '"hyrex", pg_temp')
    assert kept["synchronous_commit"] == "on"


async def test_every_connection_of_every_pool_has_them(storage_url: str) -> None:
    await prefer(storage_url, **PREFERRED)
    database = Database(storage_url, hot_connections=2, read_connections=2)
    await database.open()
    try:
        for read in (False, True):
            async with database.transaction(read=read) as one, database.transaction(read=read) as other:
                for transaction in (one, other):
                    row = await transaction.fetchrow(
                        "select current_setting('transaction_isolation'), current_setting('lock_timeout')"
                    )
                    assert row is not None
                    assert tuple(row) == ("read committed", "0")
        (row,) = await database.fetch("select current_setting('transaction_isolation')", vital=True)
        assert row[0] == "read committed"
    finally:
        await database.close()


async def test_a_limit_is_exact_where_the_database_prefers_another_isolation(
    storage_url: str, connection: Any
) -> None:
    """Rule 13: who waited for the limit's lock must count what was committed meanwhile."""
    await prefer(storage_url, default_transaction_isolation="repeatable read")
    async with Stage.on(storage_url) as stage, Stage.on(storage_url) as rival:
        lane = await stage.lane()
        await rival.lane()
        await stage.lanes.declare_limits([DeclaredLimit("task", "work", 2)])
        await stage.submit(*(new_task() for _ in range(8)))
        sessions = [await each.session() for each in (stage, rival)]
        async with connection.transaction():
            await connection.execute("select from concurrency_limit for update")
            assigns = [
                asyncio.create_task(each.assign_limited(session, lane, [("task", "work")], 4))
                for each, session in zip((stage, rival), sessions, strict=True)
            ]
            await until_blocked(connection, 2)
        taken = await asyncio.gather(*assigns)
        assert sum(map(len, taken)) == 2


async def test_a_lock_timeout_of_the_database_fails_no_statement(storage_url: str, connection: Any) -> None:
    await prefer(storage_url, lock_timeout="1ms")
    async with Stage.on(storage_url) as stage:
        (task_id,) = await stage.submitted()
        async with connection.transaction():
            await connection.execute("select from ready for update")
            cancelling = asyncio.create_task(stage.cancels.cancel([task_id], "enough"))
            await until_blocked(connection)
        assert await cancelling


async def test_a_session_that_does_not_keep_a_setting_is_refused(storage_url: str) -> None:
    connection = await Connector(storage_url, SCHEMA).connect(UPKEEP_SETTINGS, TIMEOUTS)
    try:
        with pytest.raises(StorageUnavailable, match=r"work_mem = '700kB' although .* '700'.*PgBouncer"):
            await prepare(connection, {"work_mem": "700"}, SCHEMA)
    finally:
        await connection.close()


@pytest.fixture
def latin_url(postgres_url: str) -> Iterator[str]:
    name = "hyrex_latin"
    run_apart(
        execute(
            postgres_url,
            f"create database {name} encoding 'LATIN1' locale 'C' template template0",
        )
    )
    yield with_database(postgres_url, name)
    run_apart(execute(postgres_url, f"drop database {name} with (force)"))


async def test_a_database_that_cannot_hold_every_name_is_refused(latin_url: str) -> None:
    with pytest.raises(SchemaOutOfRange, match=r"encoding LATIN1.* needs UTF8"):
        await migrate(latin_url)


async def test_a_fence_of_the_operator_is_not_overruled(storage_url: str) -> None:
    """Read-only by preference is how operators and hosts stop writes; it is said, not undone."""
    await prefer(storage_url, default_transaction_read_only="on")
    with pytest.raises(StorageUnavailable, match=r"takes no writes.*default_transaction_read_only"):
        await preflight.check(storage_url)
    with pytest.raises(StorageUnavailable, match=r"takes? (no )?writes"):
        await migrate(storage_url)
