"""Whoever may enqueue by SQL may do nothing else, and nothing of theirs runs with other rights (rule 41)."""

import secrets
from collections.abc import AsyncIterator, Iterator
from typing import Any

import asyncpg
import pytest

from hyrex_broker.domain.errors import SchemaOutOfRange
from hyrex_broker.storage.grants import EnqueueGrants
from hyrex_broker.storage.migrate import migrate
from tests.support.postgres import connect
from tests.support.roles import execute_now, role_of, role_with_few_rights

ENQUEUE = "select hyrex.enqueue('work', '{\"a\": 1}')"
ROW = "insert into hyrex.outbox (id, task, payload, options) values (gen_random_uuid(), 'a', '', '{}')"
HELD = ROW.replace("options)", "options, held)").replace("'{}')", "'{}', 'full')")


@pytest.fixture
def outbox_role(storage_url: str) -> Iterator[str]:
    role = f"outbox_{secrets.token_hex(4)}"
    execute_now(storage_url, f"create role {role} nologin")
    yield role
    names = "enqueue(text, jsonb, text, jsonb)", "enqueue_bytes(text, bytea, text, jsonb, uuid)"
    execute_now(
        storage_url,
        *(f"alter function hyrex.{name} security invoker" for name in names),
        f"reassign owned by {role} to current_user",
        f"drop owned by {role}",
        f"drop role {role}",
    )


@pytest.fixture
def shop_url(storage_url: str) -> Iterator[str]:
    """The database's URL for an application's role."""
    with role_with_few_rights(storage_url) as url:
        yield url


@pytest.fixture
async def shop(shop_url: str) -> AsyncIterator[Any]:
    connection = await connect(shop_url)
    yield connection
    await connection.close()


async def test_nobody_may_call_it_to_whom_it_was_not_granted(
    shop: Any, shop_url: str, storage_url: str, outbox_role: str, connection: Any
) -> None:
    await migrate(storage_url, enqueue=EnqueueGrants(owner=outbox_role))
    await connection.execute(f"grant usage on schema hyrex to {role_of(shop_url)}")
    others = "select hyrex.enqueue_bytes('work', '{}')", "select hyrex.checked_enqueue_options('{}')"
    for call in (ENQUEUE, *others):
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await shop.execute(call)


async def test_without_a_role_of_its_own_it_is_granted_to_nobody(shop_url: str, storage_url: str) -> None:
    with pytest.raises(SchemaOutOfRange, match=r"--enqueue-as ROLE"):
        await migrate(storage_url, enqueue=EnqueueGrants(caller=role_of(shop_url)))


async def test_whoever_may_call_it_may_do_nothing_else(
    shop: Any, shop_url: str, storage_url: str, outbox_role: str, connection: Any
) -> None:
    grants = EnqueueGrants(owner=outbox_role, caller=role_of(shop_url))
    await migrate(storage_url, enqueue=grants)
    await migrate(storage_url, enqueue=grants)  # it may be repeated
    made = await shop.fetchval(ENQUEUE)
    assert await connection.fetchval("select id from outbox") == made
    for beyond in ("select from hyrex.outbox", "delete from hyrex.outbox", "select from hyrex.task", ROW):
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await shop.execute(beyond)
    await connection.execute(f"set role {outbox_role}")
    await connection.execute(ROW)
    for beyond in ("select from hyrex.outbox", HELD, "create table hyrex.mine (id integer)"):
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await connection.execute(beyond)


async def test_nothing_of_a_caller_runs_with_the_rights_of_the_function(
    shop: Any, shop_url: str, storage_url: str, outbox_role: str, connection: Any
) -> None:
    """Neither a table, a function nor a type of the caller's, where the caller's search path finds them
    first."""
    await migrate(storage_url, enqueue=EnqueueGrants(owner=outbox_role, caller=role_of(shop_url)))
    await connection.execute(f"create schema theirs authorization {role_of(shop_url)}")
    columns = "id uuid, task text, queue text, payload bytea, options jsonb, run_at timestamptz"
    try:
        await shop.execute(
            f"create temporary table outbox ({columns}); create table theirs.ran (who text);"
            " grant usage on schema theirs to public; grant all on theirs.ran to public;"
            " create function theirs.octet_length(text) returns integer language plpgsql as"
            " $$ begin insert into theirs.ran values (current_user); return 1; end $$;"
            " create function theirs.noted(pg_catalog.timestamptz) returns boolean language plpgsql as"
            " $$ begin insert into theirs.ran values (current_user); return true; end $$;"
            " create domain pg_temp.timestamptz as pg_catalog.timestamptz check (theirs.noted(value));"
            " grant all on outbox to public; set search_path = pg_temp, theirs, pg_catalog, hyrex"
        )
        await shop.fetchval(
            "select hyrex.enqueue('work', '{}', 'q', '{\"priority\": 1, \"delay_seconds\": 1}')"
        )
        await shop.fetchval("select hyrex.enqueue_bytes('work', '{}', 'q')")
        assert await shop.fetch("select who from theirs.ran") == []
        assert await connection.fetchval("select count(*) from hyrex.outbox") == 2
    finally:
        await connection.execute("drop schema theirs cascade")
