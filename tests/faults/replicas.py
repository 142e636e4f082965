"""A pair of servers, and lists that are read from its standby: what tests of read replicas share."""

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from urllib.parse import urlsplit

import pytest

from hyrex_broker.storage import replica
from hyrex_broker.storage.pool import Database
from hyrex_broker.storage.replica import Either, ReadFrom, Replica
from tests.support.pairs import Pair, postgres_pair

WITHIN_S = 60.0
TASK = "01890000-0000-7000-8000-000000000001"


@pytest.fixture(scope="module")
def pair() -> Iterator[Pair]:
    with postgres_pair() as made:
        yield made


@pytest.fixture
async def source(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[ReadFrom]:
    monkeypatch.setattr(replica, "PROBATION_S", 0.0)
    database = Database(pair.primary.url, hot_connections=2, read_connections=2)
    await database.open()
    found = ReadFrom(database, Replica(pair.standby.url, database, lambda: None))
    try:
        yield found
    finally:
        await found.close()


@pytest.fixture
def either(source: ReadFrom) -> Either[Database]:
    return source.of(lambda database: database)


async def answering(either: Either[Database]) -> int:
    """The port of the server that answers a list."""
    row = await either.ask(lambda database: database.fetchrow("select inet_server_port()", read=True))
    assert row is not None
    return int(row[0])


async def until_answered_by(source: ReadFrom, either: Either[Database], url: str) -> None:
    """Look as the loop does, and write as brokers do, until a list is answered there."""
    assert source.replica is not None
    deadline = time.monotonic() + WITHIN_S
    while time.monotonic() < deadline:
        await source.database.execute("select pg_logical_emit_message(true, 'tests', '')")
        await source.replica._look()
        if await answering(either) == urlsplit(url).port:
            return
        await asyncio.sleep(0.05)
    raise AssertionError(f"no list was answered by {urlsplit(url).port}; lag: {source.replica.lag_s}")
