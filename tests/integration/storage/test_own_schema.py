"""Hyrex lives in a schema of its own: others' tables, another Hyrex and a role with few rights do no harm."""

import asyncio
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any, Final
from urllib.parse import urlsplit, urlunsplit

import asyncpg
import pytest

from hyrex_broker.domain.errors import SchemaOutOfRange, StorageUnavailable
from hyrex_broker.domain.model import Outcome
from hyrex_broker.domain.rates import DeclaredLimit
from hyrex_broker.storage import partitions
from hyrex_broker.storage.brokers import Channel
from hyrex_broker.storage.grants import TABLES
from hyrex_broker.storage.keyed import Placing
from hyrex_broker.storage.migrate import migrate, migrations
from hyrex_broker.storage.retention import RetentionStore
from tests.integration.storage.conftest import execute
from tests.integration.storage.keys import admissions, keyed
from tests.integration.storage.stage import Stage, make_id, new_task
from tests.support.loops import end
from tests.support.postgres import connect
from tests.support.roles import role_of, role_with_few_rights

pytestmark = pytest.mark.own_database
NEWEST: Final = migrations()[-1].number
KEEP: Final = timedelta(days=7)


@pytest.fixture
def few_rights(storage_url: str) -> Iterator[str]:
    """URL of a role that may log in, and nothing else."""
    with role_with_few_rights(storage_url) as url:
        yield url


async def test_tables_of_others_in_public_do_no_harm(empty_database_url: str) -> None:
    await execute(
        empty_database_url, *(f"create table public.{name} (id text, theirs integer)" for name in TABLES)
    )
    assert await migrate(empty_database_url) == NEWEST
    async with Stage.on(empty_database_url) as stage:
        _, run = await stage.running()
        assert len(await stage.end(run, Outcome.COMPLETED)) == 1
    await RetentionStore(empty_database_url).maintain(KEEP)
    connection = await connect(empty_database_url)
    try:
        for name in TABLES:
            assert await connection.fetchval(f"select count(*) from public.{name}") == 0
            assert await connection.fetchval("select to_regclass($1) is not null", f"hyrex.{name}")
    finally:
        await connection.close()


async def test_a_brokers_role_gets_rights_on_every_table_that_there_is(storage_url: str) -> None:
    connection = await connect(storage_url)
    try:
        found = await connection.fetch(
            "select relname from pg_class where relnamespace = 'hyrex'::regnamespace"
            " and relkind in ('r', 'p') and not relispartition"
        )
    finally:
        await connection.close()
    assert {row["relname"] for row in found} == set(TABLES)


async def test_a_schema_with_foreign_tables_of_our_names_is_refused(empty_database_url: str) -> None:
    await execute(empty_database_url, "create table public.lease (tenant text)")
    with pytest.raises(
        SchemaOutOfRange, match=r"schema public has a table 'lease' that is not Hyrex's.*--schema"
    ):
        await migrate(empty_database_url, "public")


async def test_two_of_them_share_a_database_and_see_nothing_of_each_other(
    storage_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    assert await migrate(storage_url, "staging") == NEWEST
    assert [record.message for record in caplog.records] == [
        "this database has a Hyrex in schema hyrex; a new, empty one is made in staging"
    ]
    async with Stage.on(storage_url) as one, Stage.on(storage_url, schema="staging") as other:
        await one.submitted(3)
        await other.lane()
        assert await other.execute("select count(*) from ready") == 0
        assert await other.assign(await other.session(), 10) == []
        assert len(await one.assign(await one.session(), 10)) == 3


async def test_neither_waits_for_the_others_turn_nor_hears_its_words(storage_url: str) -> None:
    await migrate(storage_url, "staging")
    holder = await connect(storage_url)
    heard: list[tuple[str, str]] = []
    all_heard, listening = asyncio.Event(), asyncio.Event()

    def hear(name: str, text: str) -> None:
        heard.append((name, text))
        (all_heard if text == "last" else listening).set()

    ours, theirs = Channel(storage_url), Channel(storage_url, "staging")
    tasks = [
        asyncio.create_task(ours.listen(("hyrex_ready",), hear)),
        asyncio.create_task(theirs.listen(("hyrex_ready",), lambda *_: None)),
    ]
    try:
        await holder.execute("set search_path = hyrex")
        await holder.execute(
            "select pg_advisory_lock(hashtext('hyrex.schema'), hashtext('hyrex')),"
            " pg_advisory_lock(hashtext('hyrex.lanes'), hashtext('hyrex'))"
        )
        async with asyncio.timeout(60):
            assert await migrate(storage_url, "staging") == NEWEST
            async with Stage.on(storage_url, schema="staging") as other:
                await other.lane("somewhere")
            await listening.wait()
            while theirs._connection is None:
                await asyncio.sleep(0.01)
            await theirs.tell("hyrex_ready", "not for you")
            await ours.tell("hyrex_ready", "last")
            await all_heard.wait()
    finally:
        await holder.close()
        await end(*tasks)
    assert heard == [("", ""), ("hyrex_ready", "last")]


async def test_a_schema_whose_versions_were_emptied_says_so(storage_url: str, connection: Any) -> None:
    await connection.execute("delete from schema_version")
    with pytest.raises(
        SchemaOutOfRange, match=r"schema hyrex has Hyrex's tables, but .* schema_version is empty"
    ):
        await migrate(storage_url)


async def test_a_role_that_owns_nothing_runs_a_broker(storage_url: str, few_rights: str) -> None:
    """A migrator's role makes and grants; the broker's role starts, works, and keeps the days in order."""
    await migrate(storage_url, grant_to=role_of(few_rights))
    assert await migrate(few_rights) == NEWEST
    async with Stage.on(few_rights) as stage:
        opened, run = await stage.running()
        await stage.lanes.declare_limits([DeclaredLimit("task", "work", 5)])
        assert await admissions(stage, keyed()) == [Placing.READY]
        assert len(await stage.end(run, Outcome.FAILED)) == 1
        await stage.sessions.end(opened.session_id, b"0123456789abcdef", Outcome.RELEASED, "bye")
        with pytest.raises(StorageUnavailable, match="42501"):
            await stage.execute("create table hyrex.own (id integer)")


async def test_a_role_that_owns_nothing_makes_and_removes_days(
    storage_url: str, few_rights: str, connection: Any
) -> None:
    await migrate(storage_url, grant_to=role_of(few_rights))
    today = partitions.day_of(datetime.now(UTC))
    old = today - timedelta(days=20)
    for parent, _ in partitions.PARENTS:
        await partitions._ensure_one(connection, parent, old)
        await connection.execute(f"drop table {parent}_{today + timedelta(days=3):%Y%m%d}")
    async with Stage.on(few_rights) as stage:
        await stage.submit(new_task(make_id(int(old.timestamp() * 1000) + 5)))
        await stage.execute("delete from ready")
    await RetentionStore(few_rights).maintain(KEEP)
    for parent, _ in partitions.PARENTS:
        for day, there in ((old, False), (today + timedelta(days=3), True)):
            name = f"{parent}_{day:%Y%m%d}"
            assert await connection.fetchval("select to_regclass($1) is not null", name) == there


async def test_a_reader_is_not_in_the_way_of_submits_while_such_a_role_removes_a_day(
    storage_url: str, few_rights: str, connection: Any
) -> None:
    """Its plain detach waits 0.3 s at most, then gives way until the next round."""
    await migrate(storage_url, grant_to=role_of(few_rights))
    old = partitions.day_of(datetime.now(UTC)) - timedelta(days=20)
    for parent, _ in partitions.PARENTS:
        await partitions._ensure_one(connection, parent, old)
    async with Stage.on(few_rights) as stage, connection.transaction():
        await connection.fetchval("select count(*) from task, task_run")
        await RetentionStore(few_rights).maintain(KEEP)
        await stage.submitted(3)
    assert await connection.fetchval("select to_regclass($1) is not null", f"task_{old:%Y%m%d}")


@pytest.mark.parametrize("day", ["current_date", "current_date - 1"])
async def test_no_role_can_have_a_recent_day_removed(connection: Any, day: str) -> None:
    with pytest.raises(asyncpg.RaiseError, match="no day that may go"):
        await connection.execute(f"select remove_partition('task', {day})")


async def test_only_tables_of_days_are_made_or_removed(connection: Any) -> None:
    for call in ("make_partition('lane', current_date)", "remove_partition('lane', current_date - 9)"):
        with pytest.raises(asyncpg.RaiseError):
            await connection.execute(f"select {call}")


async def test_a_role_without_rights_is_told_which_command_gives_them(
    storage_url: str, few_rights: str, empty_database_url: str
) -> None:
    told = rf"role {role_of(few_rights)} may not .*hyrex migrate --grant-to {role_of(few_rights)}"
    with pytest.raises(SchemaOutOfRange, match=told):
        await migrate(few_rights)
    elsewhere = urlunsplit(urlsplit(few_rights)._replace(path=urlsplit(empty_database_url).path))
    with pytest.raises(SchemaOutOfRange, match=told):
        await migrate(elsewhere)


async def test_a_current_schema_is_not_touched_at_a_start(storage_url: str, connection: Any) -> None:
    """Not one statement that defines anything: a standby-like role, an audit or a lock may be in the way."""
    await connection.execute(
        "create function no_ddl() returns event_trigger language plpgsql as"
        " $$ begin raise exception 'ddl: %', tg_tag; end $$"
    )
    await connection.execute("create event trigger no_ddl on ddl_command_start execute function no_ddl()")
    try:
        assert await migrate(storage_url) == NEWEST
    finally:
        await connection.execute("drop event trigger no_ddl")
