"""Lists from a standby: read there while it is close behind, and from the primary as soon as it is not."""

import asyncio
import logging
import time
from datetime import UTC, datetime, timedelta
from urllib.parse import urlsplit, urlunsplit

import asyncpg
import pytest

from hyrex_broker.domain.errors import SchemaOutOfRange, StorageUnavailable
from hyrex_broker.domain.selection import Selection
from hyrex_broker.domain.states import TaskState
from hyrex_broker.storage import preflight, replica
from hyrex_broker.storage.cluster import ClusterStore
from hyrex_broker.storage.listing import TaskLists
from hyrex_broker.storage.peers import NEWEST, PeerStore
from hyrex_broker.storage.pool import Database
from hyrex_broker.storage.queues import QueueStore
from hyrex_broker.storage.reads import LISTED, TaskReads
from hyrex_broker.storage.replica import Either, ReadFrom, Replica
from hyrex_broker.storage.stats import StatStore, TimeRange
from tests.faults.field import stop
from tests.faults.replicas import TASK, WITHIN_S, answering, either, pair, source, until_answered_by
from tests.support.pairs import Pair, value
from tests.support.postgres import with_database
from tests.support.roles import execute_now
from tests.support.trees import tree

__all__ = ["either", "pair", "source"]
LEFT = "lists are read from the primary: the replica cannot be used"


async def test_lists_counts_and_statistics_can_be_read_on_a_standby(source: ReadFrom, pair: Pair) -> None:
    """Each statement, whatever the primary's tables hold: of unlogged ones a standby has none."""
    assert source.replica is not None
    standby, now = source.replica.database, datetime.now(UTC)
    await standby.open()
    for states in ({TaskState.RUNNING}, {TaskState.QUEUED, TaskState.FAILED, TaskState.COMPLETED}, set()):
        selection = Selection(states=frozenset(states), labels=() if states else (("kind", "x"),))
        assert (await TaskLists(standby).page(selection, None, 10)).tasks == []
        assert (await TaskLists(standby).count(selection, 10))[0] == 0
    assert await TaskReads(standby).tasks([TASK], LISTED) == []  # type: ignore[list-item]
    assert await QueueStore(standby).page("", 10, sees=lambda _: True) == []
    assert await QueueStore(standby).page("", 10) == []
    assert await QueueStore(standby).now() > now - timedelta(hours=1)
    assert await PeerStore(standby).sessions(NEWEST, 10, ended=True) == []
    assert await PeerStore(standby).brokers() == []
    stats, cluster = StatStore(standby), ClusterStore(standby)
    assert await stats.points("", TimeRange(now - timedelta(hours=1), now, timedelta(minutes=1))) == []
    assert await stats.rates(1) == {}  # type: ignore[arg-type]
    assert await cluster.running([1], 10) == []  # type: ignore[list-item]
    assert (await cluster.oldest(["x"]), await cluster.strange_tasks(["x"], 5)) == ({}, [])
    assert await cluster.full_limits(None, 5) == []


async def test_a_standby_that_lags_is_left_and_used_again_when_it_is_close(
    source: ReadFrom, either: Either[Database], pair: Pair, caplog: pytest.LogCaptureFixture
) -> None:
    assert source.replica is not None
    caplog.set_level(logging.WARNING)
    await until_answered_by(source, either, pair.standby.url)
    caplog.clear()
    await asyncio.to_thread(execute_now, pair.standby.url, "select pg_wal_replay_pause()")
    try:
        deadline = time.monotonic() + WITHIN_S
        while LEFT not in caplog.messages:
            assert time.monotonic() < deadline
            await until_answered_by(source, either, pair.primary.url)
        for _ in range(3):
            await source.replica._look()
        assert not source.replica.usable
        assert caplog.messages.count(LEFT) == 1
    finally:
        await asyncio.to_thread(execute_now, pair.standby.url, "select pg_wal_replay_resume()")
    await until_answered_by(source, either, pair.standby.url)
    assert "lists are read from the replica again" in caplog.messages


async def test_a_standby_that_has_never_been_seen_close_is_not_used(
    source: ReadFrom, either: Either[Database], pair: Pair
) -> None:
    """One look tells nothing: it may have lagged for hours."""
    assert source.replica is not None
    await source.replica._look()
    assert not source.replica.usable
    assert await answering(either) == urlsplit(pair.primary.url).port


async def test_another_cluster_or_database_is_refused_by_name_at_the_start(
    pair: Pair, postgres_url: str
) -> None:
    look = "select system_identifier::text from pg_control_system()"
    own = await asyncio.to_thread(value, pair.primary.url, look)
    with pytest.raises(SchemaOutOfRange, match=rf"--read-database-url: .* another cluster .*{own}"):
        await preflight.check_replica(postgres_url, pair.primary.url)
    with pytest.raises(SchemaOutOfRange, match="names the database template1, and --database-url postgres"):
        await preflight.check_replica(with_database(pair.standby.url, "template1"), pair.primary.url)


async def test_a_primary_in_the_standbys_place_or_nobody_keeps_no_broker_from_its_start(
    pair: Pair, caplog: pytest.LogCaptureFixture
) -> None:
    """A failover swaps the roles, and a replica is a convenience."""
    await preflight.check_replica(pair.standby.url, pair.primary.url)
    await preflight.check_replica(pair.primary.url, pair.primary.url)
    assert not caplog.records
    nobody = urlunsplit(urlsplit(pair.standby.url)._replace(netloc="postgres:x@127.0.0.1:1"))
    await preflight.check_replica(nobody, pair.primary.url)
    assert "the replica cannot be checked" in caplog.messages


async def test_the_primary_is_never_taken_for_its_standby(pair: Pair, source: ReadFrom) -> None:
    """Of several servers the one that takes no writes is used."""
    one, other = urlsplit(pair.primary.url), urlsplit(pair.standby.url)
    url = urlunsplit(one._replace(netloc=f"{one.netloc},127.0.0.1:{other.port}"))
    both = ReadFrom(source.database, Replica(url, source.database, lambda: None))
    assert both.replica is not None
    try:
        await until_answered_by(both, both.of(lambda database: database), pair.standby.url)
    finally:
        await both.replica.close()


async def test_a_list_is_answered_at_once_when_the_standby_goes(
    source: ReadFrom, either: Either[Database], pair: Pair, caplog: pytest.LogCaptureFixture
) -> None:
    assert source.replica is not None
    caplog.set_level(logging.WARNING)
    await until_answered_by(source, either, pair.standby.url)
    caplog.clear()
    await asyncio.to_thread(pair.standby._end)
    try:
        assert await answering(either) == urlsplit(pair.primary.url).port
        await source.replica._look()
        await source.replica._look()
        assert caplog.messages.count(LEFT) == 1
        assert source.replica.lag_s is None
    finally:
        await asyncio.to_thread(pair.standby.start)
    await until_answered_by(source, either, pair.standby.url)


async def test_a_list_that_waits_for_a_silent_standby_is_asked_of_the_primary(
    source: ReadFrom, either: Either[Database], pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As soon as a look finds it silent: the list's own time, which is long here, need not be over."""
    assert source.replica is not None
    monkeypatch.setattr(Database._pool, "__defaults__", (600.0,))
    await until_answered_by(source, either, pair.standby.url)
    go_on = stop(tree(pair.standby.pid))
    try:
        lists = [asyncio.create_task(answering(either)) for _ in range(3)]
        await source.replica._look()
        async with asyncio.timeout(WITHIN_S):
            assert await asyncio.gather(*lists) == [urlsplit(pair.primary.url).port] * 3
        assert not source.replica.usable
    finally:
        go_on()
    await until_answered_by(source, either, pair.standby.url)


async def test_only_a_list_that_the_standby_itself_cut_off_is_not_asked_of_the_primary(
    source: ReadFrom, either: Either[Database], pair: Pair
) -> None:
    """It would take as long there. A broker that got no answer, or no connection, knows nothing of that."""
    assert source.replica is not None
    standby = source.replica.database
    asked: list[Database] = []

    async def slow(database: Database, limit: str, patience_s: float) -> int:
        asked.append(database)
        async with database.transaction(read=True) as transaction:
            if database is standby:
                await transaction.execute(f"set local statement_timeout = '{limit}'")
                await transaction._connection.execute("select pg_sleep(600)", timeout=patience_s)
            return int((await transaction.fetch("select inet_server_port()"))[0][0])

    await until_answered_by(source, either, pair.standby.url)
    with pytest.raises(StorageUnavailable, match="57014"):
        await either.ask(lambda database: slow(database, "50ms", WITHIN_S))
    assert asked == [standby]
    await until_answered_by(source, either, pair.standby.url)
    answer = await either.ask(lambda database: slow(database, "60s", 0.2))
    assert answer == urlsplit(pair.primary.url).port
    assert not source.replica.usable


async def test_a_standby_without_room_for_every_pool_keeps_no_connection(
    source: ReadFrom, either: Either[Database], pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each look opens the pools one after the other; those opened before the one that fails are closed. The
    next look has a pause of its own before it."""
    assert source.replica is not None
    monkeypatch.setattr(replica, "OPEN_EVERY_S", 0.01)
    monkeypatch.setattr(replica, "LOOK_EVERY_S", 600.0)
    made: list[asyncpg.Connection] = []
    looked_again = asyncio.Event()

    async def room_for_one(connection: asyncpg.Connection) -> None:
        if len(made) % 2:
            made.append(connection)
            raise asyncpg.TooManyConnectionsError("sorry, too many clients already")
        if made:
            looked_again.set()
        made.append(connection)

    checks = source.replica.database.connector.checks
    checks.append(room_for_one)
    looks = asyncio.create_task(source.replica.run())
    try:
        async with asyncio.timeout(WITHIN_S):
            await looked_again.wait()
    finally:
        checks.remove(room_for_one)
        looks.cancel()
    assert made[0].is_closed()
    await asyncio.gather(looks, return_exceptions=True)
    await until_answered_by(source, either, pair.standby.url)


async def test_one_look_without_an_answer_in_time_does_not_condemn_a_standby(
    source: ReadFrom, pair: Pair
) -> None:
    """A server or a machine that is busy for a moment. One that refuses is told at once."""
    assert source.replica is not None
    looks: list[asyncpg.Connection] = []

    async def slow_at_first(connection: asyncpg.Connection) -> None:
        looks.append(connection)
        if len(looks) == 1:
            raise TimeoutError

    source.replica.database.connector.checks.append(slow_at_first)
    assert await source.replica.tried(WITHIN_S) == ""
