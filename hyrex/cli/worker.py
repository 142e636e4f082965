"""`hyrex worker`: the workers that are connected."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from hyrex.cli.connection import DEFAULT_URL, AsJson, BrokerUrl, ask_admin
from hyrex.cli.output import print_json, print_list, print_table, say
from hyrex.cli.paging import ask_every

if TYPE_CHECKING:
    import grpc.aio

commands = typer.Typer(help="The workers that are connected.", no_args_is_help=True)


@commands.callback()
def group() -> None:
    """The workers that are connected."""


@commands.command("list")
def list_workers(
    ended: Annotated[bool, typer.Option("--ended", help="Those that have ended too.")] = False,
    broker_url: BrokerUrl = DEFAULT_URL,
    as_json: AsJson = False,
) -> None:
    """List workers, newest first."""
    from hyrex.cli.wire import worker_values

    workers = [worker_values(session) for session in sessions(broker_url, ended)]
    if as_json:
        print_list("workers", workers)
        return
    counts = ("tasks", "running", "fetched", "slots")
    columns = ("session", "name", "queues", *counts, "broker", "started", "state")
    rows = [
        (
            worker["session_id"],
            worker["name"],
            ", ".join(worker["queues"]),
            len(worker["tasks"]),
            worker["running"],
            worker["fetched"],
            worker["slots"],
            worker["broker"],
            worker["started"],
            _state(worker),
        )
        for worker in workers
    ]
    print_table(columns, rows, "no workers are connected")


@commands.command("drain")
def drain(
    session_id: Annotated[str, typer.Argument(metavar="SESSION", help="The session's id, from the list.")],
    broker_url: BrokerUrl = DEFAULT_URL,
    as_json: AsJson = False,
) -> None:
    """Ask a worker to take no new work, finish what it runs, and leave."""
    from hyrex.v1 import admin_service_pb2

    ask_admin(broker_url, "DrainWorker", admin_service_pb2.DrainWorkerRequest(session_id=session_id))
    if as_json:
        print_json({"session_id": session_id, "asked_to_drain": True})
    else:
        say(f"worker session {session_id} was asked to drain")


def sessions(broker_url: str, ended: bool) -> list[Any]:
    """All worker sessions of the cluster."""
    from hyrex.v1 import admin_service_pb2, admin_service_pb2_grpc

    def rpc(channel: "grpc.aio.Channel") -> Any:
        return admin_service_pb2_grpc.AdminServiceStub(channel).ListWorkers

    return ask_every(broker_url, rpc, admin_service_pb2.ListWorkersRequest(include_ended=ended), "workers")


def _state(worker: dict[str, Any]) -> str:
    if worker["ended"]:
        return f"ended: {worker['end_reason'] or 'goodbye'}"
    return "draining" if worker["draining"] else "working"
