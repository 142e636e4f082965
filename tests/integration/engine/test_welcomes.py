"""Workers that come back together are let in at the broker's pace, whoever they are."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any

import grpc.aio

from hyrex.v1 import (
    admin_service_pb2_grpc,
    queue_service_pb2_grpc,
    schedule_service_pb2_grpc,
    task_service_pb2_grpc,
    worker_service_pb2,
    worker_service_pb2_grpc,
    workflow_service_pb2_grpc,
)
from hyrex_broker.config import MIB, BrokerConfig
from hyrex_broker.engine.sessions.welcomes import AT_ONCE
from hyrex_broker.service.server import Servicers, build_server
from hyrex_broker.service.work import WorkEngine, WorkerServicer
from tests.integration.engine.bench import Bench

HELLO = worker_service_pb2.WorkRequest(
    hello=worker_service_pb2.Hello(
        worker_name="one of many",
        protocol_version=1,
        queue_patterns=["*"],
        tasks=[worker_service_pb2.TaskDefinition(name="work", queue="default", pool="sync", priority=5)],
        capacity=[worker_service_pb2.PoolCapacity(pool="sync", maximum=1)],
    )
)


@asynccontextmanager
async def served(bench: Bench) -> AsyncIterator[tuple[WorkEngine, Any]]:
    """The engine behind a real server, and a stub of its worker service."""
    engine = bench.engine
    work = WorkEngine(
        engine.sessions,
        engine.reports,
        engine.heartbeats,
        engine.progress,
        "bench",
        timedelta(seconds=15),
        timedelta(seconds=3),
        4 * MIB,
    )
    tasks: Any = task_service_pb2_grpc.TaskServiceServicer
    queues: Any = queue_service_pb2_grpc.QueueServiceServicer
    admin: Any = admin_service_pb2_grpc.AdminServiceServicer
    schedules: Any = schedule_service_pb2_grpc.ScheduleServiceServicer
    # Only the workers' is called.
    workflows: Any = workflow_service_pb2_grpc.WorkflowServiceServicer
    servicers = Servicers(tasks(), WorkerServicer(work), queues(), admin(), schedules(), workflows())
    built = build_server(BrokerConfig(database_url=bench.database.url, port=0), servicers)
    await built.server.start()
    try:
        async with grpc.aio.insecure_channel(f"127.0.0.1:{built.port}") as channel:
            yield work, worker_service_pb2_grpc.WorkerServiceStub(channel)
    finally:
        async with asyncio.timeout(60):
            await built.server.stop(None)


async def test_a_hello_waits_until_it_is_its_turn(bench: Bench) -> None:
    async with served(bench) as (work, workers):
        places = [work.welcomes.place() for _ in range(AT_ONCE)]
        for place in places:
            await place.__aenter__()
        stream = workers.Work()
        await stream.write(HELLO)
        welcomed = asyncio.ensure_future(stream.read())
        async with asyncio.timeout(60):
            while not welcomed.done() and not work.welcomes._waiting:
                await asyncio.sleep(0.005)
        assert not welcomed.done(), "it did not wait"
        assert not bench.engine.sessions.by_id, "it was looked at before its turn"
        for place in places:
            await place.__aexit__(None, None, None)
        async with asyncio.timeout(60):
            assert (await welcomed).HasField("welcome")
        stream.cancel()
