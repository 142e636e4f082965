"""Serves calls until it is told to stop; then ends in order."""

import asyncio
import gc
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Final, cast

from hyrex.runtime.metrics_server import MetricsUnavailable, serve_metrics
from hyrex.v1.admin_service_pb2_grpc import AdminServiceServicer
from hyrex_broker.gateway.config import GatewayConfig
from hyrex_broker.gateway.doors import TokenDoor
from hyrex_broker.gateway.others import GatewayAdmin, GatewayWorkers
from hyrex_broker.gateway.queues import GatewayQueues
from hyrex_broker.gateway.routing import GatewayCells
from hyrex_broker.gateway.schedules import GatewaySchedules
from hyrex_broker.gateway.tasks import GatewayTasks
from hyrex_broker.gateway.workflows import GatewayWorkflows
from hyrex_broker.hangup import stop_signals
from hyrex_broker.service.certificates import BindError
from hyrex_broker.service.health import HealthServicer
from hyrex_broker.service.listening import Servicers, listen

_LOOK_EVERY_S: Final = 0.5


async def run_gateway(config: GatewayConfig) -> None:
    """Serve until SIGTERM, SIGINT or cancellation. Raises BindError if it cannot."""
    gc.freeze()
    stop, leaving = asyncio.Event(), asyncio.Event()
    cells = GatewayCells(config.routes)
    doors = TokenDoor(cells) if config.asks_for_tokens else None
    built = listen(config, _servicers(cells, leaving), doors, _age(config))
    loop = asyncio.get_running_loop()
    for number in stop_signals():
        loop.add_signal_handler(number, stop.set)
    with _observed(config, cells):
        async with asyncio.TaskGroup() as group:
            loops = [group.create_task(each.run()) for each in cells.all]
            loops.append(group.create_task(_look(cells, built.health)))
            try:
                await built.server.start()
                print(f"gateway ready: listening on {config.host}:{built.port}", flush=True)
                await stop.wait()
            finally:
                leaving.set()
                built.health.drain()
                await built.server.stop(config.drain_timeout_s)
                for each in loops:
                    each.cancel()


def _age(config: GatewayConfig) -> Sequence[tuple[str, int]]:
    """The option that ends connections in order (GOAWAY) when they are that old, give or take a tenth."""
    if config.max_connection_age_s is None:
        return ()
    return (("grpc.max_connection_age_ms", round(config.max_connection_age_s * 1000)),)


def _servicers(cells: GatewayCells, leaving: asyncio.Event) -> Servicers:
    return Servicers(
        tasks=GatewayTasks(cells, leaving),
        workers=GatewayWorkers(),
        queues=GatewayQueues(cells),
        schedules=GatewaySchedules(cells),
        workflows=GatewayWorkflows(cells),
        admin=cast(AdminServiceServicer, GatewayAdmin(cells)),
    )


async def _look(cells: GatewayCells, health: HealthServicer) -> None:
    """Keep cells connected, and be healthy while one of them answers."""
    while True:
        health.reachable([each.is_reachable for each in cells.all].count(True) > 0)
        await asyncio.sleep(_LOOK_EVERY_S)


@contextmanager
def _observed(config: GatewayConfig, cells: GatewayCells) -> Iterator[None]:
    """Within the block, answer scrapes if the configuration wants it. Raises BindError."""
    if config.metrics is None:
        yield
        return
    from hyrex_broker.gateway.metrics import GatewayMetrics

    try:
        served = serve_metrics(GatewayMetrics(config.name, config.version, cells), config.metrics)
    except MetricsUnavailable as error:
        raise BindError(str(error)) from None
    print(f"gateway metrics: {served.url}", flush=True)
    try:
        yield
    finally:
        served.close()
