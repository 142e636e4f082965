"""Health as those ask for it who decide where calls go: probes (Check) and load balancers (Watch)."""

import asyncio
import signal
from typing import Any

import grpc.aio
from grpc_health.v1 import health_pb2, health_pb2_grpc

from tests.support.processes import StartBroker

SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING


async def test_a_probe_needs_no_token_and_knows_every_service(start_broker: StartBroker) -> None:
    broker = start_broker("--token", "open-sesame")
    async with grpc.aio.insecure_channel(broker.address) as channel:
        check: Any = health_pb2_grpc.HealthStub(channel).Check
        for service in ("", "hyrex.v1.TaskService", "hyrex.v1.WorkerService"):
            answer = await check(health_pb2.HealthCheckRequest(service=service), timeout=60)
            assert answer.status == SERVING


async def test_a_load_balancer_hears_at_once_that_a_broker_drains(start_broker: StartBroker) -> None:
    broker = start_broker()
    async with grpc.aio.insecure_channel(broker.address) as channel, asyncio.timeout(60):
        watch: Any = health_pb2_grpc.HealthStub(channel).Watch
        call = watch(health_pb2.HealthCheckRequest())
        assert (await call.read()).status == SERVING
        broker.process.signal(signal.SIGTERM)
        assert (await call.read()).status == NOT_SERVING
