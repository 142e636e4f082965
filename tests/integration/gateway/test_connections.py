"""A gateway's connections: with TLS on both sides, to several brokers of a cell, ended in order; and what
goes on of a call."""

import asyncio
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import grpc
import grpc.aio
from grpc_health.v1 import health_pb2_grpc

from hyrex.transport.errors import call_failure
from hyrex.v1 import task_pb2, task_service_pb2_grpc
from hyrex.v1 import task_service_pb2 as pb
from hyrex_broker.service.health import HealthServicer
from tests.integration.gateway.conftest import REST, Cluster, Stubs, stubs_on
from tests.integration.gateway.sends import STORED, new_task, stored
from tests.integration.gateway.test_away import stopped
from tests.integration.service.seeding import make_id
from tests.support.ports import free_port
from tests.support.process import ROOT
from tests.support.processes import Processes, StartBroker
from tests.support.tokens import bearer

WITHIN_S = 60.0
TLS = ROOT / "tests/support/tls"
SERVER = ("--tls-cert", str(TLS / "server.crt"), "--tls-key", str(TLS / "server.key"))
READY = grpc.ChannelConnectivity.READY
TRACE = ("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")


async def stored_at_last(stubs: Stubs, **options: Any) -> None:
    """Store a task, as a client does that sends again what may be repeated."""
    request = pb.SubmitTasksRequest(tasks=[new_task(REST)])
    async with asyncio.timeout(WITHIN_S):
        while True:
            try:
                answer = await stubs.tasks.SubmitTasks(request, **options)
            except grpc.aio.AioRpcError as error:
                if not call_failure(error).repeatable:
                    raise
            else:
                assert answer.results[0].outcome in (STORED, pb.SUBMIT_OUTCOME_REPEATED)
                return


async def test_clients_and_cells_are_spoken_to_with_tls(
    start_broker: StartBroker, processes: Processes
) -> None:
    """The token goes to a cell whose certificate is trusted, and to no other."""
    broker = start_broker(*SERVER, env={"HYREX_TOKEN": "root"})
    routes = f"*=grpcs://{broker.address}"
    trust = {"GRPC_DEFAULT_SSL_ROOTS_FILE_PATH": str(TLS / "ca.crt")}
    trusting = processes.gateway(routes, *SERVER, "--require-token", env=trust)
    other = processes.gateway(routes, *SERVER)
    credentials = grpc.ssl_channel_credentials((TLS / "ca.crt").read_bytes())
    async with (
        grpc.aio.secure_channel(trusting.address, credentials) as channel,
        grpc.aio.secure_channel(other.address, credentials) as to_other,
        grpc.aio.insecure_channel(trusting.address) as plain,
    ):
        await stored_at_last(stubs_on(channel), metadata=bearer("root"))
        request = pb.GetTaskRequest(task_id=make_id())
        for call in (
            stubs_on(plain).tasks.GetTask(request, metadata=bearer("root")),
            stubs_on(to_other).tasks.GetTask(request, metadata=bearer("root")),
        ):
            assert await call.code() is grpc.StatusCode.UNAVAILABLE


async def test_the_brokers_of_a_cell_stand_in_for_one_another(
    start_broker: StartBroker, processes: Processes
) -> None:
    """Whichever it uses: one that says nothing, and one that is gone."""
    brokers = [start_broker() for _ in range(2)]
    gateway = processes.gateway(f"*={brokers[0].url},{brokers[1].url}")
    async with grpc.aio.insecure_channel(gateway.address) as channel:
        stubs = stubs_on(channel)
        await stored_at_last(stubs)
        for broker in brokers:
            with stopped(broker):
                await stored_at_last(stubs)
        brokers[0].process.kill()
        await stored_at_last(stubs)
        port = int(brokers[0].address.rpartition(":")[2])
        start_broker(port=port)
        brokers[1].process.kill()
        await stored_at_last(stubs)


class Recording(task_service_pb2_grpc.TaskServiceServicer):
    """A cell that notes what comes with a call."""

    def __init__(self) -> None:
        self.calls: list[tuple[dict[str, Any], float]] = []

    async def GetTask(self, request: pb.GetTaskRequest, context: Any) -> pb.GetTaskResponse:  # noqa: N802
        self.calls.append((dict(context.invocation_metadata()), context.time_remaining()))
        return pb.GetTaskResponse(task=task_pb2.Task(task_id=request.task_id))


@asynccontextmanager
async def serving(recording: Recording) -> AsyncIterator[str]:
    server = grpc.aio.server()
    task_service_pb2_grpc.add_TaskServiceServicer_to_server(recording, server)
    health_pb2_grpc.add_HealthServicer_to_server(HealthServicer(()), server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        yield f"grpc://127.0.0.1:{port}"
    finally:
        await server.stop(None)


async def test_a_calls_metadata_and_what_is_left_of_its_time_go_on_to_the_cell(processes: Processes) -> None:
    recording = Recording()  # type: ignore[abstract]  # it plays one of its calls
    async with serving(recording) as url:
        gateway = await asyncio.to_thread(processes.gateway, f"*={url}")
        async with grpc.aio.insecure_channel(gateway.address) as channel:
            request, tasks = pb.GetTaskRequest(task_id=make_id()), stubs_on(channel).tasks
            async with asyncio.timeout(WITHIN_S):
                while not recording.calls:
                    await tasks.GetTask(request, timeout=3.0, metadata=[TRACE]).code()
            await tasks.GetTask(request)
    (told, left_s), (untold, own_s) = recording.calls[0], recording.calls[-1]
    assert told[TRACE[0]] == TRACE[1]
    assert 0 < left_s < 4
    assert TRACE[0] not in untold
    assert 0 < own_s < 6, "no call waits for ever for a cell"


async def test_a_gateway_that_stops_sends_its_clients_elsewhere(
    cluster: Cluster, processes: Processes
) -> None:
    """Two on one port, as behind a load balancer of connections: a client's connection is ended (GOAWAY), and
    its next one leads to the other."""
    port = free_port()
    leaving = processes.gateway(cluster.routes, "--reuse-port", port=port)
    async with grpc.aio.insecure_channel(leaving.address) as channel, asyncio.timeout(WITHIN_S):
        stubs = stubs_on(channel)
        await stored(stubs, new_task(REST))
        processes.gateway(cluster.routes, "--reuse-port", port=port)
        leaving.process.signal(signal.SIGTERM)
        while leaving.process.running:
            await stored_at_last(stubs)
        await stored_at_last(stubs)
        assert leaving.process.wait() == 0


async def test_a_connection_that_is_old_is_made_anew_without_an_error(
    cluster: Cluster, processes: Processes
) -> None:
    """So that gateways which are added get clients."""
    gateway = processes.gateway(cluster.routes, "--max-connection-age", "1")
    async with grpc.aio.insecure_channel(gateway.address) as channel, asyncio.timeout(WITHIN_S):
        for _ in range(2):
            await stored(stubs_on(channel), new_task(REST))
            await channel.wait_for_state_change(READY)
        await stored(stubs_on(channel), new_task(REST))
