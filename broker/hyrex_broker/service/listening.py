"""A gRPC server of hyrex.v1: its options, its services, and the address it listens on."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol

import grpc
import grpc.aio
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from hyrex.v1 import (
    admin_service_pb2,
    admin_service_pb2_grpc,
    queue_service_pb2,
    queue_service_pb2_grpc,
    schedule_service_pb2,
    schedule_service_pb2_grpc,
    task_service_pb2,
    task_service_pb2_grpc,
    worker_service_pb2,
    worker_service_pb2_grpc,
    workflow_service_pb2,
    workflow_service_pb2_grpc,
)
from hyrex_broker.config import MIB, ListenConfig
from hyrex_broker.open_files import most_connections
from hyrex_broker.service.certificates import BindError, TlsFiles, server_credentials
from hyrex_broker.service.entry import Continuation, Door, Handler
from hyrex_broker.service.health import HealthServicer
from hyrex_broker.service.interceptors import errors_interceptor
from hyrex_broker.service.unknown_methods import tolerant_servers

SERVICES: Final = (
    task_service_pb2.DESCRIPTOR.services_by_name["TaskService"].full_name,
    worker_service_pb2.DESCRIPTOR.services_by_name["WorkerService"].full_name,
    queue_service_pb2.DESCRIPTOR.services_by_name["QueueService"].full_name,
    admin_service_pb2.DESCRIPTOR.services_by_name["AdminService"].full_name,
    schedule_service_pb2.DESCRIPTOR.services_by_name["ScheduleService"].full_name,
    workflow_service_pb2.DESCRIPTOR.services_by_name["WorkflowService"].full_name,
)
_MESSAGE_LIMIT: Final = 16 * MIB
_STREAMS_OF_A_CONNECTION: Final = 1000
_MOST_NOT_ACCEPTED: Final = 100_000


@dataclass(frozen=True, slots=True)
class Servicers:
    """The servicers of hyrex.v1."""

    tasks: task_service_pb2_grpc.TaskServiceServicer
    workers: worker_service_pb2_grpc.WorkerServiceServicer
    queues: queue_service_pb2_grpc.QueueServiceServicer
    admin: admin_service_pb2_grpc.AdminServiceServicer
    schedules: schedule_service_pb2_grpc.ScheduleServiceServicer
    workflows: workflow_service_pb2_grpc.WorkflowServiceServicer


@dataclass(frozen=True, slots=True)
class BuiltServer:
    """A bound server, not yet started. `port` is the real one where the config said 0."""

    server: grpc.aio.Server
    health: HealthServicer
    port: int


class DoorInterceptor(Door, Protocol):
    """A door, as gRPC knows it."""

    async def intercept_service(
        self, continuation: Continuation, handler_call_details: grpc.HandlerCallDetails
    ) -> "Handler | None":
        """The handler of a call that may come in."""
        ...


def listen(
    config: ListenConfig,
    servicers: Servicers,
    doors: DoorInterceptor | None,
    more: Sequence[tuple[str, Any]] = (),
    elsewhere: Callable[[], Sequence[str]] = tuple,
) -> BuiltServer:
    """Build a server with every service on it and bind its address. `more`: options of gRPC; `elsewhere`:
    brokers that may find a task which is not found here. Raises: BindError."""
    interceptors: list[Any] = [errors_interceptor(doors, elsewhere=elsewhere)]
    if doors is not None:
        interceptors.append(doors)
    with tolerant_servers():
        server = grpc.aio.server(interceptors=interceptors, options=[*_options(config), *more])
    health = _add_services(server, servicers)
    return BuiltServer(server, health, _bind(server, config))


def _options(config: ListenConfig) -> Sequence[tuple[str, Any]]:
    return (
        ("grpc.max_receive_message_length", _MESSAGE_LIMIT),
        ("grpc.max_send_message_length", _MESSAGE_LIMIT),
        ("grpc.so_reuseport", int(config.reuse_port)),
        ("grpc.keepalive_time_ms", 30_000),
        ("grpc.keepalive_timeout_ms", 10_000),
        ("grpc.keepalive_permit_without_calls", 1),
        # Below the 30 s of the clients' own keepalive: a channel that pings more often is told GOAWAY
        # too_many_pings, and without this one that has no call for two minutes is.
        ("grpc.http2.min_ping_interval_without_data_ms", 10_000),
        # A small body that inflates to millions of tasks is not received at all.
        ("grpc.compression_enabled_algorithms_bitset", 1),
        # Without a guess at the bandwidth nothing is received ahead of its reader but 64 KiB a stream.
        ("grpc.http2.bdp_probe", 0),
        ("grpc.max_concurrent_streams", _STREAMS_OF_A_CONNECTION),
        # Of calls that are not accepted yet gRPC drops some, whosever they are, beyond 1,000. A flood
        # is over before that (hanging_up.py), and costs others a moment, not their calls.
        ("grpc.server.max_pending_requests", _MOST_NOT_ACCEPTED),
        ("grpc.server.max_pending_requests_hard_limit", 2 * _MOST_NOT_ACCEPTED),
        # A connection that says nothing is closed, and beyond so many each new one is, at once.
        ("grpc.server_handshake_timeout_ms", 10_000),
        ("grpc.max_allowed_incoming_connections", most_connections()),
    )


def _add_services(server: grpc.aio.Server, servicers: Servicers) -> HealthServicer:
    task_service_pb2_grpc.add_TaskServiceServicer_to_server(servicers.tasks, server)
    worker_service_pb2_grpc.add_WorkerServiceServicer_to_server(servicers.workers, server)
    queue_service_pb2_grpc.add_QueueServiceServicer_to_server(servicers.queues, server)
    admin_service_pb2_grpc.add_AdminServiceServicer_to_server(servicers.admin, server)
    schedule_service_pb2_grpc.add_ScheduleServiceServicer_to_server(servicers.schedules, server)
    workflow_service_pb2_grpc.add_WorkflowServiceServicer_to_server(servicers.workflows, server)
    health = HealthServicer(SERVICES)
    health_pb2_grpc.add_HealthServicer_to_server(health, server)
    health_name = health_pb2.DESCRIPTOR.services_by_name["Health"].full_name
    reflection.enable_server_reflection((*SERVICES, health_name, reflection.SERVICE_NAME), server)
    return health


def _bind(server: grpc.aio.Server, config: ListenConfig) -> int:
    credentials = _credentials(config)
    try:
        if credentials is None:
            return server.add_insecure_port(config.address)
        return server.add_secure_port(config.address, credentials)
    except RuntimeError as error:
        raise BindError(
            f"cannot listen on {config.address}: the port is in use or the address is not of this"
            " machine; choose another with --listen HOST:PORT (port 0 picks a free one)"
        ) from error


def _credentials(config: ListenConfig) -> grpc.ServerCredentials | None:
    if config.tls_cert is None or config.tls_key is None:
        return None
    return server_credentials(TlsFiles(config.tls_cert, config.tls_key, config.tls_client_ca))
