"""`hyrex top`: the cluster, live: queues, workers, what fails and what needs somebody."""

import asyncio
import sys
from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from hyrex.cli.connection import DEFAULT_URL, AsJson, BrokerUrl, ask
from hyrex.cli.output import console, print_json, print_line, shown

if TYPE_CHECKING:
    import grpc.aio
    from rich.console import RenderableType
    from rich.table import Table

    from hyrex.v1 import admin_service_pb2

_FRAME_WITHIN_S: Final = 30.0
_MOST_QUEUES: Final = 25
_MOST_WORKERS: Final = 15
_MOST_NEEDS: Final = 8
_GAP: Final = 2
_NARROWEST: Final = 4
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

    with Live(console=console(), auto_refresh=False, screen=True, vertical_overflow="crop") as screen:
        async for frame in _watch(channel):
            screen.update(picture(cluster_values(frame), screen.console.width), refresh=True)
            await asyncio.sleep(0)


def _print(values: dict[str, Any]) -> None:
    out = console()
    out.print(picture(values, out.width))


def picture(values: dict[str, Any], width: int) -> "RenderableType":
    """What a screen of so many columns shows of the cluster at one moment."""
    from rich.console import Group
    from rich.text import Text

    at = values["at"]
    parts: list[RenderableType] = [Text(_head(values), style="bold"), Text()]
    for need in values["needs"][:_MOST_NEEDS]:
        parts.append(Text(f"! {shown(need['sentence'])}: {shown(need['remedy'])}", style="yellow"))
    if values["needs"]:
        parts.append(Text())
    parts += [_queues(values["queues"], at, width), Text(), _workers(values["workers"], at, width)]
    return Group(*parts)


def _head(values: dict[str, Any]) -> str:
    queues = values["queues"]
    counted = {name: sum(queue[name] for queue in queues) for name in ("queued", "delayed", "running")}
    capped = "+" if any(queue["queued_capped"] for queue in queues) else ""
    rates = {
        word: sum(queue[f"{name}_per_second"] for queue in queues)
        for word, name in (("in", "submitted"), ("done", "completed"), ("failed", "failed"))
    }
    blocked = sum(queue["blocked"] for queue in queues)
    return (
        f"{shown(values['at'])}  {counted['queued']}{capped} queued  {counted['delayed']} delayed  "
        + (f"{blocked} blocked  " if blocked else "")
        + f"{counted['running']} running  "
        + "  ".join(f"{rate:.1f} {word}/s" for word, rate in rates.items())
        + f"  {len(values['workers'])} workers  {len(values['brokers'])} brokers"
    )


def _queues(queues: list[dict[str, Any]], at: datetime, width: int) -> "Table":
    busiest = sorted(queues, key=_business, reverse=True)
    rows = [
        (
            shown(queue["name"]),
            f"{queue['queued']}{'+' if queue['queued_capped'] else ''}",
            shown(queue["delayed"]),
            _of_limit(queue),
            _age(queue["oldest_ready"], at),
            *(f"{queue[f'{name}_per_second']:.1f}" for name in ("submitted", "completed", "failed")),
            _remark(queue),
        )
        for queue in busiest[:_MOST_QUEUES]
    ]
    numbers = ("queued", "delayed", "running", "oldest", "in/s", "done/s", "failed/s", "")
    return _table(("queue",), numbers, rows, width)


def _business(queue: dict[str, Any]) -> tuple[float, ...]:
    rates = queue["submitted_per_second"] + queue["completed_per_second"] + queue["failed_per_second"]
    return rates, queue["queued"], queue["running"], queue["delayed"]


def _of_limit(queue: dict[str, Any]) -> str:
    """What runs, and of how much where that is limited: 3/10."""
    limit = queue["concurrency_limit"]
    return f"{queue['running']}/{limit}" if limit else shown(queue["running"])


def _remark(queue: dict[str, Any]) -> str:
    if queue["paused"]:
        return "paused"
    return "" if queue["workers"] or not queue["queued"] else "no worker"


def _workers(workers: list[dict[str, Any]], at: datetime, width: int) -> "Table":
    rows = []
    for worker in workers[:_MOST_WORKERS]:
        longest = worker["runs"][0] if worker["runs"] else None
        row = (
            worker["name"],
            ", ".join(worker["queues"]),
            f"{longest['name']} {_age(longest['since'], at)}" if longest else "",
            worker["running"],
            worker["fetched"],
            worker["slots"],
            "draining" if worker["draining"] else "",
        )
        rows.append(tuple(map(shown, row)))
    numbers = ("running", "fetched", "slots", "")
    return _table(("worker", "queues", "longest run"), numbers, rows, width)


def _table(
    texts: tuple[str, ...], numbers: tuple[str, ...], rows: Sequence[tuple[str, ...]], width: int
) -> "Table":
    """On a narrow screen columns of texts give way; those of numbers and their headings stay whole."""
    from rich.table import Table

    table = Table(box=None, pad_edge=False, padding=(0, _GAP, 0, 0), header_style="bold")
    taken = [max(map(len, column)) for column in zip((*texts, *numbers), *rows, strict=True)]
    left = width - sum(taken[len(texts) :]) - _GAP * (len(taken) - 1)
    for column, wide in zip(texts, shared(taken[: len(texts)], left), strict=True):
        table.add_column(column, overflow="ellipsis", no_wrap=True, width=wide)
    for column, wide in zip(numbers, taken[len(texts) :], strict=True):
        table.add_column(column, no_wrap=True, width=wide)
    for row in rows:
        table.add_row(*row)
    return table


def shared(wanted: Sequence[int], left: int) -> list[int]:
    """Widths of columns that want so much, in what is left: those that want little have it, others share."""
    widths = list(wanted)
    for done, at in enumerate(sorted(range(len(wanted)), key=lambda at: wanted[at])):
        widths[at] = max(min(wanted[at], left // (len(wanted) - done)), _NARROWEST)
        left -= widths[at]
    return widths


def _age(since: datetime | None, at: datetime) -> str:
    if since is None:
        return ""
    seconds = max((at - since).total_seconds(), 0)
    for size, unit in ((86_400, "d"), (3600, "h"), (60, "min")):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"
