"""`hyrex top`: the cluster, live: queues, workers, what fails and what needs somebody."""

import asyncio
import sys
from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from hyrex.cli.connection import DEFAULT_URL, AsJson, BrokerUrl, ask
from hyrex.cli.output import print_json, print_line, shown

if TYPE_CHECKING:
    import grpc.aio
    from rich.console import RenderableType
    from rich.table import Table

    from hyrex.v1 import admin_service_pb2

_FRAME_WITHIN_S: Final = 30.0
_MOST_QUEUES: Final = 25
_MOST_WORKERS: Final = 15
_MOST_NEEDS: Final = 8
_EVER_S: Final = 10.0 * 365 * 86_400


def top(
    once: Annotated[bool, typer.Option("--once", help="Print it once and end.")] = False,
    broker_url: BrokerUrl = DEFAULT_URL,
    as_json: AsJson = False,
) -> None:
    """Show queues, workers and what needs somebody, live, until Ctrl-C. With --json a line each second."""
    from hyrex.cli.wire import cluster_values

    if once:
        values = cluster_values(ask(broker_url, _first, timeout_s=_FRAME_WITHIN_S))
        if as_json:
            print_json(values)
        else:
            _print(values)
        return
    ask(broker_url, _lines if as_json or not sys.stdout.isatty() else _live, timeout_s=_EVER_S)


def _watch(channel: "grpc.aio.Channel") -> Any:
    from hyrex.v1 import admin_service_pb2, admin_service_pb2_grpc

    stub = admin_service_pb2_grpc.AdminServiceStub(channel)
    return stub.WatchCluster(admin_service_pb2.WatchClusterRequest())


async def _first(channel: "grpc.aio.Channel") -> "admin_service_pb2.WatchClusterResponse":
    call = _watch(channel)
    try:
        async for frame in call:
            found: admin_service_pb2.WatchClusterResponse = frame
            return found
        raise AssertionError("a watch of the cluster never ends by itself")
    finally:
        call.cancel()


async def _lines(channel: "grpc.aio.Channel") -> None:
    from hyrex.cli.wire import cluster_values

    async for frame in _watch(channel):
        print_line(cluster_values(frame))


async def _live(channel: "grpc.aio.Channel") -> None:
    from rich.live import Live

    from hyrex.cli.wire import cluster_values

    with Live(auto_refresh=False, screen=True, vertical_overflow="crop") as screen:
        async for frame in _watch(channel):
            screen.update(picture(cluster_values(frame)), refresh=True)
            await asyncio.sleep(0)


def _print(values: dict[str, Any]) -> None:
    from rich.console import Console

    width = None if sys.stdout.isatty() else 200
    Console(width=width, highlight=False, markup=False).print(picture(values))


def picture(values: dict[str, Any]) -> "RenderableType":
    """What a screen shows of the cluster at one moment."""
    from rich.console import Group
    from rich.text import Text

    at = values["at"]
    parts: list[RenderableType] = [Text(_head(values), style="bold"), Text()]
    for need in values["needs"][:_MOST_NEEDS]:
        parts.append(Text(f"! {shown(need['sentence'])}: {shown(need['remedy'])}", style="yellow"))
    if values["needs"]:
        parts.append(Text())
    parts += [_queues(values["queues"], at), Text(), _workers(values["workers"], at)]
    return Group(*parts)


def _head(values: dict[str, Any]) -> str:
    queues = values["queues"]
    counted = {name: sum(queue[name] for queue in queues) for name in ("queued", "delayed", "running")}
    capped = "+" if any(queue["queued_capped"] for queue in queues) else ""
    rates = {
        word: sum(queue[f"{name}_per_second"] for queue in queues)
        for word, name in (("in", "submitted"), ("done", "completed"), ("failed", "failed"))
    }
    return (
        f"{shown(values['at'])}  {counted['queued']}{capped} queued  {counted['delayed']} delayed  "
        f"{counted['running']} running  "
        + "  ".join(f"{rate:.1f} {word}/s" for word, rate in rates.items())
        + f"  {len(values['workers'])} workers  {len(values['brokers'])} brokers"
    )


def _queues(queues: list[dict[str, Any]], at: datetime) -> "Table":
    table = _table(
        "queue", "queued", "delayed", "running", "limit", "oldest", "in/s", "done/s", "failed/s", ""
    )
    busiest = sorted(queues, key=_business, reverse=True)
    for queue in busiest[:_MOST_QUEUES]:
        table.add_row(
            shown(queue["name"]),
            f"{queue['queued']}{'+' if queue['queued_capped'] else ''}",
            shown(queue["delayed"]),
            shown(queue["running"]),
            shown(queue["concurrency_limit"]),
            _age(queue["oldest_ready"], at),
            *(f"{queue[f'{name}_per_second']:.1f}" for name in ("submitted", "completed", "failed")),
            _remark(queue),
        )
    return table


def _business(queue: dict[str, Any]) -> tuple[float, ...]:
    rates = queue["submitted_per_second"] + queue["completed_per_second"] + queue["failed_per_second"]
    return rates, queue["queued"], queue["running"], queue["delayed"]


def _remark(queue: dict[str, Any]) -> str:
    if queue["paused"]:
        return "paused"
    return "" if queue["workers"] or not queue["queued"] else "no worker"


def _workers(workers: list[dict[str, Any]], at: datetime) -> "Table":
    table = _table("worker", "queues", "running", "fetched", "slots", "longest run", "")
    for worker in workers[:_MOST_WORKERS]:
        longest = worker["runs"][0] if worker["runs"] else None
        table.add_row(
            shown(worker["name"]),
            shown(", ".join(worker["queues"])),
            shown(worker["running"]),
            shown(worker["fetched"]),
            shown(worker["slots"]),
            f"{shown(longest['name'])} {_age(longest['since'], at)}" if longest else "",
            "draining" if worker["draining"] else "",
        )
    return table


def _table(*columns: str) -> "Table":
    from rich.table import Table

    table = Table(box=None, pad_edge=False, padding=(0, 3, 0, 0), header_style="bold")
    for column in columns:
        table.add_column(column, overflow="ellipsis", no_wrap=True)
    return table


def _age(since: datetime | None, at: datetime) -> str:
    if since is None:
        return ""
    seconds = max((at - since).total_seconds(), 0)
    for size, unit in ((86_400, "d"), (3600, "h"), (60, "min")):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"
