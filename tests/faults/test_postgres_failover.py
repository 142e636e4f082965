"""Two servers in one URL: a broker uses the one that writes, and follows when that changes."""

import asyncio
from collections.abc import Iterator
from urllib.parse import urlsplit

import pytest

from hyrex_broker.domain.errors import StorageUnavailable
from hyrex_broker.embedded import EmbeddedPostgres
from hyrex_broker.storage import preflight
from hyrex_broker.storage.pool import Database
from tests.support.pairs import Pair, both, postgres_pair
from tests.support.roles import execute_now


@pytest.fixture
def pair() -> Iterator[Pair]:
    with postgres_pair() as made:
        yield made


async def test_a_broker_uses_the_server_that_writes_and_follows_a_failover(pair: Pair) -> None:
    primary, standby = pair.primary, pair.standby
    await standbys_are_named_in_one_line(standby)
    database = Database(both(standby, primary), hot_connections=2, read_connections=1)
    await database.open()
    try:
        assert await port_of(database) == primary._port
        primary._end()
        with pytest.raises(StorageUnavailable):
            await port_of(database)
        await asyncio.to_thread(execute_now, standby.url, "select pg_promote()")
        assert await port_of(database) == standby._port
        for vital in (False, True):
            await database.fetch("update broker set seen_at = now()", vital=vital)
    finally:
        await database.close()


async def test_a_server_that_is_fenced_is_left_though_it_still_answers(pair: Pair) -> None:
    """Its connections stand and answer every read: only a write shows what it is by now."""
    primary, standby = pair.primary, pair.standby
    database = Database(both(primary, standby), hot_connections=2, read_connections=1)
    await database.open()
    try:
        assert await port_of(database) == primary._port
        await asyncio.to_thread(execute_now, standby.url, "select pg_promote()")
        await asyncio.to_thread(
            execute_now,
            primary.url,
            "alter system set default_transaction_read_only = on",
            "select pg_reload_conf()",
        )
        await _until_fenced(database)
        for vital in (False, True):
            await database.fetch("update broker set seen_at = now()", vital=vital)
            assert await port_of(database, vital=vital) == standby._port
    finally:
        await database.close()


async def _until_fenced(database: Database) -> None:
    """Write until the reload has come through; the refused write is the last on that server."""
    for _ in range(10_000):
        try:
            await database.fetch("update broker set seen_at = now()")
        except StorageUnavailable as error:
            if "25006" in error.message:
                return
            raise
    raise AssertionError("the server was never fenced")


async def standbys_are_named_in_one_line(standby: EmbeddedPostgres) -> None:
    """What `hyrex run-broker` and `hyrex migrate` say where nothing else is there."""
    url = urlsplit(standby.url)
    name = f"{url.hostname}:{url.port}"
    lone, two = standby.url, both(standby, standby) + "?target_session_attrs=read-write"
    for given, places in ((lone, [name]), (two, [name, name])):
        with pytest.raises(StorageUnavailable) as refused:
            await preflight.check(given)
        told = refused.value.message
        assert told.count(f"{name} takes no writes: it is a standby") == len(places)
        assert "\n" not in told
        assert told.endswith("set --database-url or HYREX_DATABASE_URL")


async def port_of(database: Database, *, vital: bool = False) -> int:
    (row,) = await database.fetch("select inet_server_port()", vital=vital)
    return int(row[0])
