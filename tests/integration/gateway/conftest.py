"""Two cells with a broker each, on databases of one server, behind a gateway; all of them are processes."""

import os
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import grpc.aio
import pytest

from hyrex.v1 import (
    admin_service_pb2_grpc,
    queue_service_pb2_grpc,
    schedule_service_pb2_grpc,
    task_service_pb2_grpc,
    worker_service_pb2_grpc,
)
from tests.support.postgres import copied_database
from tests.support.processes import Processes, RunningBroker

VIDEO, REST = "video", "rest"


@dataclass(frozen=True)
class Stubs:
    """What a client calls at one address; typed loosely, since grpc.aio's calls have no types."""

    tasks: Any
    queues: Any
    schedules: Any
    admin: Any
    workers: Any
    channel: grpc.aio.Channel


@dataclass(frozen=True)
class Cluster:
    """A gateway and the brokers of its cells."""

    gateway: RunningBroker
    video: RunningBroker
    rest: RunningBroker
    routes: str


@pytest.fixture(scope="module")
def cluster(postgres_url: str, template_database: str) -> Iterator[Cluster]:
    processes = Processes()
    with ExitStack() as stack:
        stack.callback(processes.end)
        brokers = [
            processes.broker(
                stack.enter_context(
                    copied_database(postgres_url, template_database, f"hyrex_gw_{os.getpid()}_{at}")
                )
            )
            for at in range(2)
        ]
        routes = f"{VIDEO}*={brokers[0].url};*={brokers[1].url}"
        yield Cluster(processes.gateway(routes), brokers[0], brokers[1], routes)


@pytest.fixture
async def stubs(cluster: Cluster) -> AsyncIterator[Stubs]:
    """What a client calls at the gateway."""
    async with grpc.aio.insecure_channel(cluster.gateway.address) as channel:
        yield stubs_on(channel)


def stubs_on(channel: grpc.aio.Channel) -> Stubs:
    """What a client calls on a channel."""
    return Stubs(
        task_service_pb2_grpc.TaskServiceStub(channel),
        queue_service_pb2_grpc.QueueServiceStub(channel),
        schedule_service_pb2_grpc.ScheduleServiceStub(channel),
        admin_service_pb2_grpc.AdminServiceStub(channel),
        worker_service_pb2_grpc.WorkerServiceStub(channel),
        channel,
    )
