"""Two servers in one URL: a broker uses the one that writes, and follows when that changes."""

import asyncio
import shutil
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import pytest

from hyrex_broker.domain.errors import StorageUnavailable
from hyrex_broker.embedded import EmbeddedPostgres, server
from hyrex_broker.storage import preflight
from hyrex_broker.storage.pool import Database
from tests.support.eventually import eventually
from tests.support.postgres import migrate_now
from tests.support.roles import execute_now


@pytest.fixture
def primary(monkeypatch: pytest.MonkeyPatch) -> Iterator[EmbeddedPostgres]:
    """A server whose data can be a standby's."""
    monkeypatch.setitem(server.SETTINGS, "wal_level", "replica")
    with EmbeddedPostgres() as started:
        migrate_now(started.url)
        yield started


@pytest.fixture
def standby(primary: EmbeddedPostgres, monkeypatch: pytest.MonkeyPatch) -> Iterator[EmbeddedPostgres]:
    """A cold copy of the primary that has become its standby."""
    assert primary._cluster is not None
    origin = primary._cluster.directory
    copy = Path(f"{origin}-standby")
    port = primary._port
    primary._end()
    subprocess.run(["cp", "-a", str(origin), str(copy)], check=True, timeout=60)
    primary.start()
    assert primary._port == port
    signal = copy / "data" / "standby.signal"
    signal.touch()
    if (account := primary._account) is not None:
        account.own(signal)
    other = EmbeddedPostgres(copy)
    # A standby is never "ready" by its own word; it is when it answers.
    monkeypatch.setattr(server, "_wait_ready", lambda *_: bool(eventually(lambda: _answers(other), 30)))
    other.start()
    yield other
    other.stop()
    shutil.rmtree(copy, ignore_errors=True)


def _answers(started: EmbeddedPostgres) -> bool:
    with socket.socket() as probe:
        if started._port is None or probe.connect_ex(("127.0.0.1", started._port)):
            return False
    try:
        execute_now(started.url, "select 1")
    except Exception:  # it is still starting
        return False
    return True


def both(first: EmbeddedPostgres, second: EmbeddedPostgres) -> str:
    """One URL for two servers, in this order."""
    one, two = urlsplit(first.url), urlsplit(second.url)
    return urlunsplit(one._replace(netloc=f"{one.netloc},{two.hostname}:{two.port}"))


async def test_a_broker_uses_the_server_that_writes_and_follows_a_failover(
    primary: EmbeddedPostgres, standby: EmbeddedPostgres
) -> None:
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


async def test_a_server_that_is_fenced_is_left_though_it_still_answers(
    primary: EmbeddedPostgres, standby: EmbeddedPostgres
) -> None:
    """Its connections stand and answer every read: only a write shows what it is by now."""
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
