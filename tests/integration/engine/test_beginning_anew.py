"""A broker that begins anew leaves nothing behind where that fails, and stops where it waits."""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final

import grpc.aio
import pytest

from hyrex.v1.worker_service_pb2 import WorkResponse
from hyrex.v1.worker_service_pb2_grpc import WorkerServiceStub
from hyrex_broker import app, serving
from hyrex_broker.config import BrokerConfig
from hyrex_broker.domain.errors import StorageUnavailable
from hyrex_broker.lasting import Enduring
from hyrex_broker.service.certificates import BindError
from hyrex_broker.service.server import BuiltServer, build_server
from hyrex_broker.storage import migrate
from hyrex_broker.storage.brokers import BrokerStore
from hyrex_broker.storage.migrate import exclude_others
from tests.protocol_abuse.abuser import hello
from tests.support.ports import free_port
from tests.support.postgres import connect

HANG_S: Final = 60


def config(url: str, **more: Any) -> BrokerConfig:
    return BrokerConfig(**{"database_url": url, "port": 0, **more})


@pytest.fixture(autouse=True)
def silent(monkeypatch: pytest.MonkeyPatch) -> None:
    """The signal that asks for a report stays with the tests' own process."""
    monkeypatch.setattr(app, "_print_when_asked", lambda *_: None)


@asynccontextmanager
async def closing(connection: Any) -> AsyncIterator[None]:
    try:
        yield
    finally:
        await connection.close()


async def until_free(port: int) -> None:
    """Wait until others may listen there."""
    async with asyncio.timeout(HANG_S):
        while True:
            try:
                socket.create_server(("127.0.0.1", port)).close()
            except OSError:
                await asyncio.sleep(0.02)
            else:
                return


async def test_a_beginning_that_fails_at_its_metrics_leaves_its_port_free(database_url: str) -> None:
    port = free_port()
    with socket.create_server(("127.0.0.1", 0)) as taken:
        metrics = taken.getsockname()
        with pytest.raises(BindError):
            await app._run_on(Enduring(), config(database_url, port=port, metrics=metrics))
    await until_free(port)


async def test_a_beginning_that_loses_the_database_last_leaves_its_port_free(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def away(*_: object) -> None:
        raise StorageUnavailable("away")

    kept: list[BuiltServer] = []  # a server that nobody has any more would end by itself some time

    def build(*given: Any) -> BuiltServer:
        kept.append(build_server(*given))
        return kept[0]

    monkeypatch.setattr(serving, "build_server", build)
    monkeypatch.setattr(BrokerStore, "moved", away)
    lasting = Enduring()
    with pytest.raises(StorageUnavailable, match="away"):
        await app._run_on(lasting, config(database_url))
    await until_free(lasting.port)


async def test_one_that_begins_anew_waits_for_no_call(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing can be stored for the calls that are open, and everybody waits for the new primary."""
    monkeypatch.setattr(serving, "_GRACE_S", 600.0)
    lasting = Enduring()
    running = asyncio.ensure_future(app._run_on(lasting, config(database_url, drain_timeout_s=600)))
    async with asyncio.timeout(HANG_S):
        while not lasting.port:
            await asyncio.sleep(0.02)
        async with grpc.aio.insecure_channel(f"127.0.0.1:{lasting.port}") as channel:
            call = WorkerServiceStub(channel).Work()
            await call.write(hello())
            answer = await call.read()
            assert isinstance(answer, WorkResponse)
            assert answer.HasField("welcome")
            lasting.timeline.end("a new primary")
            await running


async def test_a_stop_ends_a_beginning_that_waits_for_a_migration(database_url: str) -> None:
    lasting = Enduring()
    other = await connect(database_url)
    await other.execute("set search_path = hyrex")
    await exclude_others(other)
    beginning = asyncio.ensure_future(app._run_on(lasting, config(database_url)))
    async with closing(other), asyncio.timeout(HANG_S):
        while not await other.fetchval(
            "select count(*) from pg_stat_activity where application_name like 'hyrex-broker%'"
            " and datname = current_database()"
        ):
            await asyncio.sleep(0.02)
        lasting.stop.set()
        await beginning


async def test_a_look_at_the_schema_is_not_waited_for_as_a_migration_is(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(migrate, "_LOOK_WITHIN_S", 0.3)
    other = await connect(database_url)
    async with closing(other), asyncio.timeout(HANG_S), other.transaction():
        await other.execute("lock table hyrex.schema_version")
        with pytest.raises(StorageUnavailable, match="in time"):
            await migrate.migrate(database_url)
