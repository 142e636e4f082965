"""`task.on(connection)` with the real libraries: what commits is in the outbox, what rolls back is not."""

import json
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import fields
from datetime import UTC, datetime
from typing import Any, Final

import asyncpg
import psycopg
import pytest
import sqlalchemy
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker, create_async_engine
from sqlalchemy.orm import Session, sessionmaker

from hyrex import HyrexApp, HyrexRegistry, NotInTransaction, OutboxUnavailable, TaskHandle, UnknownConnection
from hyrex.errors import ArgumentInvalid, SendRejected
from hyrex.middleware import Middleware, SendInfo
from hyrex.options import CHANGEABLE, SendOptions
from tests.support.postgres import connect
from tests.support.roles import role_with_few_rights

hy = HyrexRegistry(queue="orders")


@hy.task(max_retries=2, priority=7, retry_backoff=3)
def charge(order: int) -> int:
    return order


def _sqlalchemy_url(url: str, driver: str) -> str:
    return url.replace("postgresql://", f"postgresql+{driver}://", 1)


@contextmanager
def _psycopg(url: str) -> Iterator[Any]:
    with psycopg.connect(url) as connection:
        yield connection


@contextmanager
def _psycopg_rows_as_dicts(url: str) -> Iterator[Any]:
    with psycopg.connect(url, row_factory=psycopg.rows.dict_row) as connection:
        yield connection


@contextmanager
def _engine(url: str) -> Iterator[Any]:
    engine = sqlalchemy.create_engine(_sqlalchemy_url(url, "psycopg"))
    try:
        yield engine
    finally:
        engine.dispose()


@contextmanager
def _connection(url: str) -> Iterator[Any]:
    with _engine(url) as engine, engine.connect() as connection:
        yield connection


@contextmanager
def _session(url: str) -> Iterator[Any]:
    with _engine(url) as engine, sessionmaker(engine)() as session:
        yield session


@asynccontextmanager
async def _async_psycopg(url: str) -> AsyncIterator[Any]:
    async with await psycopg.AsyncConnection.connect(url) as connection:
        yield connection


@asynccontextmanager
async def _async_engine(url: str) -> AsyncIterator[Any]:
    engine = create_async_engine(_sqlalchemy_url(url, "asyncpg"))
    try:
        yield engine
    finally:
        await engine.dispose()


@asynccontextmanager
async def _async_connection(url: str) -> AsyncIterator[Any]:
    async with _async_engine(url) as engine, engine.connect() as connection:
        yield connection


@asynccontextmanager
async def _async_session(url: str) -> AsyncIterator[Any]:
    async with _async_engine(url) as engine, async_sessionmaker(engine)() as session:
        yield session


SYNC: Final = [_psycopg, _psycopg_rows_as_dicts, _connection, _session]
ASYNC: Final = [_async_psycopg, _async_connection, _async_session]


async def _enqueued(url: str) -> list[Any]:
    connection = await connect(url)
    try:
        return list(await connection.fetch("select * from hyrex.outbox order by id"))
    finally:
        await connection.close()


async def _assert_is(url: str, handle: TaskHandle[int], order: int) -> None:
    (row,) = await _enqueued(url)
    assert (row["id"], row["task"], row["queue"]) == (handle.id, "charge", "orders")
    assert json.loads(row["payload"]) == {"order": order}
    assert json.loads(row["options"]) == {"priority": 7, "max_retries": 2, "retry_delay_seconds": 3.0}
    assert (handle.task_name, handle.status) == ("charge", None)


@pytest.mark.parametrize("opened", SYNC)
async def test_what_commits_is_enqueued_and_what_rolls_back_is_not(
    storage_url: str, opened: Callable[[str], Any]
) -> None:
    with opened(storage_url) as connection:
        charge.on(connection).send(1)
        connection.rollback()
        handle = charge.on(connection).send(2)
        assert await _enqueued(storage_url) == []
        connection.commit()
    await _assert_is(storage_url, handle, 2)


@pytest.mark.parametrize("opened", ASYNC)
async def test_the_same_holds_where_connections_are_awaited(
    storage_url: str, opened: Callable[[str], Any]
) -> None:
    async with opened(storage_url) as connection:
        await charge.on(connection).send_async(1)
        await connection.rollback()
        handle = await charge.on(connection).send_async(2)
        assert await _enqueued(storage_url) == []
        await connection.commit()
    await _assert_is(storage_url, handle, 2)


async def test_a_connection_of_asyncpg_and_one_of_its_pool_enqueue_in_their_transactions(
    storage_url: str,
) -> None:
    async with asyncpg.create_pool(storage_url, min_size=1, max_size=1) as pool, pool.acquire() as connection:
        transaction = connection.transaction()
        await transaction.start()
        await charge.on(connection).send_async(1)
        await transaction.rollback()
        async with connection.transaction():
            handle = await charge.on(connection).send_async(2)
            assert await _enqueued(storage_url) == []
    await _assert_is(storage_url, handle, 2)


async def test_every_option_of_a_send_arrives(storage_url: str) -> None:
    at = datetime(2030, 1, 2, 3, 4, 5, tzinfo=UTC)
    call = charge.with_config(
        queue="slow", priority=1, max_retries=0, timeout_seconds=1.5, expires_in=60, run_at=at,
        idempotency_key="k", headers={"a": "b"}, labels={"c": "d"},
    )  # fmt: skip
    with psycopg.connect(storage_url) as connection:
        call.on(connection).send(1)
        charge.with_config(delay=10).on(connection).send(2)
    first, second = await _enqueued(storage_url)
    assert (first["queue"], first["run_at"]) == ("slow", at)
    assert json.loads(first["options"]) == {
        "priority": 1, "max_retries": 0, "timeout_seconds": 1.5, "expires_in_seconds": 60.0,
        "retry_delay_seconds": 3.0, "run_at": at.isoformat(), "idempotency_key": "k", "headers": {"a": "b"},
        "labels": {"c": "d"},
    }  # fmt: skip
    assert second["run_at"] > second["enqueued_at"]


@hy.task(
    concurrency_key=lambda order: f"order-{order}",
    max_per_key=2,
    on_full="refuse",
    fair_key=lambda order: order,
)
def pack(order: int) -> None: ...


async def test_keys_are_made_of_the_arguments_and_enqueued_with_the_task(storage_url: str) -> None:
    with psycopg.connect(storage_url) as connection:
        pack.on(connection).send(1)
    (row,) = await _enqueued(storage_url)
    said = json.loads(row["options"])
    assert {name: said[name] for name in ("concurrency_key", "max_per_key", "on_full", "fair_key")} == {
        "concurrency_key": "order-1", "max_per_key": 2, "on_full": "refuse", "fair_key": "1",
    }  # fmt: skip


def test_what_the_outbox_does_not_carry_is_refused_and_never_dropped(storage_url: str) -> None:
    debounced = charge.with_config(debounce_key="k", delay=10)
    with psycopg.connect(storage_url) as connection:
        refused = debounced.on(connection)
        with pytest.raises(ValueError, match="has no debounce_key yet"):
            refused.send(1)
    carried = {"idempotency_key", "delay", "run_at", "headers", "labels"}
    carried |= {"concurrency_key", "max_per_key", "on_full", "fair_key"}
    # A new option is carried by Enqueue, or refused by refuse_keys.
    assert {each.name for each in fields(SendOptions)} == carried | {"debounce_key", "debounce_max_wait"}
    assert set(CHANGEABLE) == {"queue", "priority", "max_retries", "timeout_seconds", "expires_in"}


async def _refused(awaited: Awaitable[object]) -> None:
    with pytest.raises(NotInTransaction, match="commits each statement by itself"):
        await awaited


async def test_a_connection_that_commits_each_statement_is_refused(storage_url: str) -> None:
    with psycopg.connect(storage_url, autocommit=True) as connection:
        with pytest.raises(NotInTransaction, match=r"with connection\.transaction\(\)"):
            charge.on(connection).send(1)
        with connection.transaction():
            charge.on(connection).send(1)
    engine = sqlalchemy.create_engine(_sqlalchemy_url(storage_url, "psycopg"), isolation_level="AUTOCOMMIT")
    with engine.connect() as plain, pytest.raises(NotInTransaction):
        charge.on(plain).send(1)
    with Session(engine) as session, pytest.raises(NotInTransaction):
        charge.on(session).send(1)
    engine.dispose()
    async_engine = create_async_engine(_sqlalchemy_url(storage_url, "asyncpg"), isolation_level="AUTOCOMMIT")
    async with async_engine.connect() as awaited:
        await _refused(charge.on(awaited).send_async(1))
    async with AsyncSession(async_engine) as async_session:
        await _refused(charge.on(async_session).send_async(1))
    await async_engine.dispose()
    native = await connect(storage_url)
    await _refused(charge.on(native).send_async(1))
    await native.close()
    assert len(await _enqueued(storage_url)) == 1


async def test_a_database_without_hyrex_and_a_role_without_the_right_are_told_as_such(
    postgres_url: str, storage_url: str
) -> None:
    with psycopg.connect(postgres_url) as connection:
        with pytest.raises(OutboxUnavailable, match=r"has no hyrex\.enqueue_bytes"):
            charge.on(connection).send(1)
        connection.rollback()
        with pytest.raises(OutboxUnavailable, match=r"has no other\.enqueue_bytes"):
            charge.on(connection, schema="other").send(1)
    async with _async_session(postgres_url) as session:
        with pytest.raises(OutboxUnavailable, match=r"has no hyrex\.enqueue_bytes"):
            await charge.on(session).send_async(1)


def test_a_role_without_the_right_is_told_which_command_gives_it(storage_url: str) -> None:
    told = pytest.raises(OutboxUnavailable, match="--grant-enqueue-to ROLE")
    with role_with_few_rights(storage_url) as url, psycopg.connect(url) as connection, told:
        charge.on(connection).send(1)


@pytest.mark.parametrize("connection", [object(), "postgresql://localhost", None])
def test_what_is_no_connection_is_refused_at_once(connection: object) -> None:
    with pytest.raises(
        UnknownConnection, match="takes a connection of psycopg 3, asyncpg, SQLAlchemy or Django"
    ):
        charge.on(connection)


def test_another_database_of_sqlalchemy_is_refused() -> None:
    engine = sqlalchemy.create_engine("sqlite://")
    with engine.connect() as connection, pytest.raises(UnknownConnection, match="this one is to sqlite"):
        charge.on(connection).send(1)
    engine.dispose()


async def test_the_way_that_a_connection_is_used_is_told(storage_url: str) -> None:
    async with _async_psycopg(storage_url) as awaited:
        with pytest.raises(TypeError, match=r"call send_async\(\)"):
            charge.on(awaited).send(1)
    with psycopg.connect(storage_url) as plain:
        with pytest.raises(TypeError, match=r"call send\(\)"):
            await charge.on(plain).send_async(1)
        with pytest.raises(ArgumentInvalid):
            charge.on(plain).send("many")  # type: ignore[arg-type]


def test_what_the_database_refuses_is_a_rejected_send(
    storage_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A machine's clock that is days off makes ids of other days."""
    monkeypatch.setattr("hyrex.backend.outgoing.new_task_id", lambda: str(uuid.UUID(int=7 << 76 | 1)))
    with (
        psycopg.connect(storage_url) as connection,
        pytest.raises(SendRejected, match="clock of the database"),
    ):
        charge.on(connection).send(1)


async def test_middleware_is_around_sends_in_transactions(storage_url: str) -> None:
    seen = list[SendInfo]()

    class Notes(Middleware):
        @contextmanager
        def around_send(self, send: SendInfo, /) -> Iterator[None]:
            seen.append(send)
            send.add_header("who", "me")
            yield

    registry = HyrexRegistry()

    @registry.task
    def work(order: int) -> None: ...

    app = HyrexApp("shop")
    app.add_registry(registry)
    app.middleware(Notes())
    with psycopg.connect(storage_url) as connection:
        handle = work.on(connection).send(1)
    (row,) = await _enqueued(storage_url)
    assert json.loads(row["options"])["headers"] == {"who": "me"}
    assert [send.task_ids for send in seen] == [(str(handle.id),)]
