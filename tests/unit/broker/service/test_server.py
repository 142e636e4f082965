"""The server binds, serves health and reflection, and says clearly when it cannot listen."""

import socket
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from hyrex.v1 import (
    admin_service_pb2_grpc,
    queue_service_pb2_grpc,
    schedule_service_pb2_grpc,
    task_service_pb2_grpc,
    worker_service_pb2_grpc,
    workflow_service_pb2_grpc,
)
from hyrex_broker.config import BrokerConfig
from hyrex_broker.engine.known_tokens import KnownTokens
from hyrex_broker.service.certificates import BindError
from hyrex_broker.service.server import SERVICES, BuiltServer, Servicers, build_server
from tests.unit.broker.service.test_interceptors import NoTokens

Health = health_pb2.HealthCheckResponse


def config(**changes: Any) -> BrokerConfig:
    return BrokerConfig(**{"database_url": "postgresql://localhost/hyrex", "port": 0, **changes})


def empty_servicers() -> Servicers:
    """Servicers as generated: every RPC is unimplemented."""
    generated: Any = (
        task_service_pb2_grpc.TaskServiceServicer,
        worker_service_pb2_grpc.WorkerServiceServicer,
        queue_service_pb2_grpc.QueueServiceServicer,
        admin_service_pb2_grpc.AdminServiceServicer,
        schedule_service_pb2_grpc.ScheduleServiceServicer,
        workflow_service_pb2_grpc.WorkflowServiceServicer,
    )
    return Servicers(*(servicer() for servicer in generated))


@pytest.fixture
async def built() -> AsyncIterator[BuiltServer]:
    built = build_server(config(token="secret"), empty_servicers(), KnownTokens(NoTokens(), ["secret"]))
    await built.server.start()
    try:
        yield built
    finally:
        await built.server.stop(None)


@pytest.fixture
async def channel(built: BuiltServer) -> AsyncIterator[grpc.aio.Channel]:
    async with grpc.aio.insecure_channel(f"127.0.0.1:{built.port}") as channel:
        yield channel


@pytest.mark.parametrize("service", ["", *SERVICES])
async def test_health_is_told_without_a_token(
    built: BuiltServer, channel: grpc.aio.Channel, service: str
) -> None:
    stub = health_pb2_grpc.HealthStub(channel)
    request = health_pb2.HealthCheckRequest(service=service)
    assert (await stub.Check(request)).status == Health.SERVING
    built.health.reachable(False)
    assert (await stub.Check(request)).status == Health.NOT_SERVING
    built.health.reachable(True)
    assert (await stub.Check(request)).status == Health.SERVING


async def test_health_watchers_all_see_the_drain(built: BuiltServer, channel: grpc.aio.Channel) -> None:
    stub = health_pb2_grpc.HealthStub(channel)
    watches = [stub.Watch(health_pb2.HealthCheckRequest()) for _ in range(3)]
    assert [(await watch.read()).status for watch in watches] == [Health.SERVING] * 3
    watches[0].cancel()
    built.health.drain()
    built.health.reachable(True)
    assert [(await watch.read()).status for watch in watches[1:]] == [Health.NOT_SERVING] * 2


async def test_health_of_an_unknown_service_is_not_found(channel: grpc.aio.Channel) -> None:
    stub = health_pb2_grpc.HealthStub(channel)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await stub.Check(health_pb2.HealthCheckRequest(service="absent"))
    assert caught.value.code() is grpc.StatusCode.NOT_FOUND


async def test_reflection_lists_every_service_without_a_token(channel: grpc.aio.Channel) -> None:
    stub = reflection_pb2_grpc.ServerReflectionStub(channel)
    stream = stub.ServerReflectionInfo(
        iter([reflection_pb2.ServerReflectionRequest(list_services="")]), timeout=60
    )
    answer = await stream.read()
    names = {service.name for service in answer.list_services_response.service}
    assert names >= {*SERVICES, "grpc.health.v1.Health"}


async def test_a_port_in_use_is_named() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(BindError, match=f"127.0.0.1:{port}: the port is in use"):
            build_server(config(port=port), empty_servicers())


async def test_an_unreadable_certificate_is_named(tmp_path: Path) -> None:
    absent = tmp_path / "absent.pem"
    with pytest.raises(BindError, match=r"absent\.pem"):
        build_server(config(tls_cert=absent, tls_key=absent), empty_servicers())
