"""Which server brokers read lists from: what operators are told, and what becomes of it after a promotion."""

import asyncio
import sys
import time
from collections.abc import Callable

import grpc
import pytest

from hyrex.v1.admin_service_pb2 import (
    GetStatsRequest,
    ListBrokersRequest,
    ListWorkersRequest,
    WatchClusterRequest,
)
from hyrex.v1.admin_service_pb2_grpc import AdminServiceStub
from hyrex.v1.queue_service_pb2 import ListQueuesRequest
from hyrex.v1.queue_service_pb2_grpc import QueueServiceStub
from hyrex.v1.task_service_pb2 import CountTasksRequest, GetTaskRequest, ListTasksRequest
from hyrex.v1.task_service_pb2_grpc import TaskServiceStub
from hyrex_broker.embedded import EmbeddedPostgres
from hyrex_broker.storage import replica
from hyrex_broker.storage.examine_replica import examine_replica
from hyrex_broker.storage.pool import Database
from hyrex_broker.storage.replica import Either, ReadFrom, Replica
from hyrex_broker.storage.statements import load
from tests.faults.replicas import TASK, WITHIN_S, either, pair, source, until_answered_by
from tests.integration.observing.scrape import scrape, url_of
from tests.support.eventually import eventually
from tests.support.pairs import Pair, value
from tests.support.processes import Processes
from tests.support.roles import execute_now

__all__ = ["either", "pair", "source"]
LISTEN = "127.0.0.1:0"


def write_what_the_standby_lacks(pair: Pair) -> None:
    """To a standby that is told to pause. Nothing that is not flushed counts, and these servers flush later
    than they commit (they are not durable)."""
    eventually(lambda: value(pair.standby.url, "select pg_get_wal_replay_pause_state() = 'paused'"))
    has = value(pair.standby.url, "select pg_last_wal_replay_lsn()::text")
    execute_now(pair.primary.url, "select pg_logical_emit_message(true, 'tests', '')")
    eventually(lambda: value(pair.primary.url, f"select pg_current_wal_flush_lsn() > '{has}'"))


async def test_the_doctor_says_why_a_standby_is_not_used(pair: Pair, postgres_url: str) -> None:
    primary, standby = pair.primary.url, pair.standby.url
    used = await examine_replica(standby, primary, within_s=WITHIN_S)
    assert (used.remedy, used.found.split(",")[0]) == ("", "a standby")
    taken = await examine_replica(primary, primary)
    assert "it takes writes" in taken.found
    assert "name a standby" in taken.remedy
    foreign = await examine_replica(postgres_url, primary)
    assert "is of another cluster" in foreign.remedy
    away = await examine_replica("postgresql://127.0.0.1:1/hyrex", primary)
    assert "not used: " in away.found
    assert "name a standby" in away.remedy
    await asyncio.to_thread(execute_now, standby, "select pg_wal_replay_pause()")
    try:
        await asyncio.to_thread(write_what_the_standby_lacks, pair)
        async with asyncio.timeout(WITHIN_S):
            while "in time" in (behind := await examine_replica(standby, primary, within_s=2.0)).found:
                pass  # this machine is too busy to look twice
    finally:
        await asyncio.to_thread(execute_now, standby, "select pg_wal_replay_resume()")
    assert "behind" in behind.found or "has not come far enough" in behind.found
    assert "name a standby" in behind.remedy


def first_frame(admin: AdminServiceStub) -> object:
    """Of a stream that ends with the call: a broker serves so many at a time."""
    stream = admin.WatchCluster(WatchClusterRequest(), timeout=WITHIN_S)
    try:
        return next(stream)
    finally:
        stream.cancel()


def test_a_brokers_lists_come_from_its_replica_and_what_decides_from_the_primary(
    pair: Pair, processes: Processes
) -> None:
    """Found by the users' own RPCs; metrics tell who answered."""
    given = {"HYREX_READ_DATABASE_URL": pair.standby.url}
    broker = processes.broker(pair.primary.url, "--metrics", "127.0.0.1:0", env=given)
    metrics = url_of(broker.process)
    with grpc.insecure_channel(broker.address) as channel:
        tasks, queues = TaskServiceStub(channel), QueueServiceStub(channel)
        admin = AdminServiceStub(channel)
        unknown = GetTaskRequest(task_id=TASK)
        with pytest.raises(grpc.RpcError, match="NOT_FOUND"):
            tasks.GetTask(unknown, timeout=WITHIN_S)
        assert scrape(metrics).value("hyrex_replica_reads_total") == 0
        ask: list[Callable[[], object]] = [
            lambda: tasks.ListTasks(ListTasksRequest(), timeout=WITHIN_S),
            lambda: tasks.CountTasks(CountTasksRequest(), timeout=WITHIN_S),
            lambda: queues.ListQueues(ListQueuesRequest(), timeout=WITHIN_S),
            lambda: admin.ListWorkers(ListWorkersRequest(), timeout=WITHIN_S),
            lambda: admin.ListBrokers(ListBrokersRequest(), timeout=WITHIN_S),
            lambda: admin.GetStats(GetStatsRequest(), timeout=WITHIN_S),
            lambda: first_frame(admin),
        ]
        for rpc in ask:
            before = scrape(metrics).value("hyrex_replica_reads_total", server="replica")

            def answered(rpc: Callable[[], object] = rpc, before: float = before) -> bool:
                rpc()
                return scrape(metrics).value("hyrex_replica_reads_total", server="replica") > before

            eventually(answered)


def test_a_broker_refuses_a_replica_of_another_cluster(
    pair: Pair, postgres_url: str, processes: Processes
) -> None:
    given = {"HYREX_DATABASE_URL": pair.primary.url, "HYREX_READ_DATABASE_URL": postgres_url}
    refused = processes.start("broker", sys.executable, "-m", "hyrex_broker", "--listen", LISTEN, env=given)
    assert refused.wait() == 4
    assert "is of another cluster" in refused.output


async def restarted_as_standby(server: EmbeddedPostgres) -> None:
    """End a primary and start it as a standby of nobody."""
    assert server._cluster is not None
    signal = server._cluster.directory / "data" / "standby.signal"
    await asyncio.to_thread(server._end)
    signal.touch()
    if (account := server._account) is not None:
        account.own(signal)
    await asyncio.to_thread(server.start)


async def test_a_standby_that_follows_its_primary_to_a_new_timeline_is_used(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(replica, "PROBATION_S", 0.0)
    timeline = load("replication")["timeline"]
    before = await asyncio.to_thread(value, pair.primary.url, timeline)
    await restarted_as_standby(pair.primary)
    await asyncio.to_thread(execute_now, pair.primary.url, "select pg_promote()")
    assert await asyncio.to_thread(value, pair.primary.url, timeline) == before + 1
    database = Database(pair.primary.url, hot_connections=2, read_connections=2)
    await database.open()
    source = ReadFrom(database, Replica(pair.standby.url, database, lambda: None))
    try:
        await until_answered_by(source, source.of(lambda each: each), pair.standby.url)
    finally:
        await source.close()


async def test_a_standby_that_was_promoted_is_used_no_more(
    source: ReadFrom, either: Either[Database], pair: Pair
) -> None:
    """The last but one of the pair: it answers by itself from now on, whatever the primary does."""
    assert source.replica is not None
    await until_answered_by(source, either, pair.standby.url)
    await asyncio.to_thread(pair.promote)
    await until_answered_by(source, either, pair.primary.url)
    for _ in range(3):
        await source.replica._look()
        assert not source.replica.usable


async def test_a_standby_of_an_older_timeline_is_not_used_however_far_its_log_is(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The last test of the pair: the old primary went on by itself, and is a standby of nobody by now."""
    monkeypatch.setattr(replica, "PROBATION_S", 0.0)
    if await asyncio.to_thread(value, pair.standby.url, "select pg_is_in_recovery()"):
        await asyncio.to_thread(pair.promote)
    old = pair.primary
    more = "select pg_logical_emit_message(false, 'tests', repeat('x', 1000000)) from generate_series(1, 40)"
    await asyncio.to_thread(execute_now, old.url, more)
    await restarted_as_standby(old)
    database = Database(pair.standby.url, hot_connections=2, read_connections=2)
    await database.open()
    source = ReadFrom(database, Replica(old.url, database, lambda: None))
    assert source.replica is not None
    try:
        for _ in range(4):
            await database.execute("select pg_logical_emit_message(true, 'tests', '')")
            await source.replica._look()
            assert not source.replica.usable
        assert source.replica._meter.has_all_but(time.monotonic(), WITHIN_S)
    finally:
        await source.close()
