"""`hyrex queue`: queues, their backlog and their limits."""

from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from hyrex.cli import connection
from hyrex.cli.cells import url_for_queue
from hyrex.cli.connection import DEFAULT_URL, AsJson, BrokerUrl, CellsUrl, ask
from hyrex.cli.errors import CommandError
from hyrex.cli.output import print_json, print_list, print_table, say, shown
from hyrex.cli.paging import ask_every

if TYPE_CHECKING:
    import grpc.aio

    from hyrex.v1 import task_pb2

_STEP_TIMEOUT_S: Final = 30.0
"""A step takes a second, but may wait much longer for the steps of others."""
MOST_RUNS: Final = 2**31 - 1
MOST_WAITING: Final = 1_000_000
MOST_DAYS: Final = 3650
commands = typer.Typer(help="Queues, their backlog and their limits.", no_args_is_help=True)
Create = Annotated[bool, typer.Option("--create", help="Make the queue where there is none.")]
Name = Annotated[str, typer.Argument(metavar="QUEUE", help="The queue's name.")]


@commands.command("list")
def list_queues(broker_url: BrokerUrl = DEFAULT_URL, as_json: AsJson = False) -> None:
    """List all queues."""
    from hyrex.cli.wire import queue_values
    from hyrex.v1 import queue_service_pb2, queue_service_pb2_grpc

    def rpc(channel: "grpc.aio.Channel") -> Any:
        return queue_service_pb2_grpc.QueueServiceStub(channel).ListQueues

    found = ask_every(broker_url, rpc, queue_service_pb2.ListQueuesRequest(), "queues")
    queues = [queue_values(queue) for queue in found]
    if as_json:
        print_list("queues", queues)
    else:
        _print_queues(queues)


@commands.command("pause")
def pause(
    name: Name, create: Create = False, broker_url: CellsUrl = DEFAULT_URL, as_json: AsJson = False
) -> None:
    """Assign nothing from a queue until it is resumed."""
    _update(broker_url, as_json, create, name=name, paused=True)


@commands.command("resume")
def resume(name: Name, broker_url: CellsUrl = DEFAULT_URL, as_json: AsJson = False) -> None:
    """Assign from a paused queue again."""
    _update(broker_url, as_json, create=None, name=name, paused=False)


@commands.command("limit")
def limit(
    name: Name,
    runs: Annotated[
        int | None,
        typer.Argument(min=0, max=MOST_RUNS, help="Most runs at once in the whole cluster; 0: no limit."),
    ] = None,
    rate: Annotated[
        str | None,
        typer.Option(
            help="Most runs that begin in a time in the whole cluster, such as 100/m; none: any number."
        ),
    ] = None,
    burst: Annotated[
        int | None, typer.Option(min=1, help="How many of the rate may begin together after a rest.")
    ] = None,
    create: Create = False,
    broker_url: CellsUrl = DEFAULT_URL,
    as_json: AsJson = False,
) -> None:
    """Limit how many tasks of a queue run at once, how many begin in a time, or both."""
    if runs is None and rate is None:
        raise CommandError("give a number of runs, a --rate, or both", status=2)
    changes: dict[str, Any] = {} if runs is None else {"concurrency_limit": runs}
    if rate is not None or burst is not None:
        changes["rate"] = _rate(rate, burst)
    _update(broker_url, as_json, create, name=name, **changes)


def _rate(text: str | None, burst: int | None) -> "task_pb2.Rate":
    """A rate for the wire; empty for none. Raises CommandError."""
    from google.protobuf.duration_pb2 import Duration

    from hyrex.rate import checked_rate
    from hyrex.v1 import task_pb2

    if text == "none" and burst is None:
        return task_pb2.Rate()
    try:
        rate = checked_rate(text, burst, "--rate")
    except ValueError as error:
        raise CommandError(str(error), status=2) from None
    assert rate is not None
    return task_pb2.Rate(count=rate.count, period=Duration(seconds=rate.period_s), burst=rate.burst)


@commands.command("max-waiting")
def max_waiting(
    name: Name,
    tasks: Annotated[
        int, typer.Argument(min=0, max=MOST_WAITING, help="Most tasks that may wait; 0: any number.")
    ],
    create: Create = False,
    broker_url: CellsUrl = DEFAULT_URL,
    as_json: AsJson = False,
) -> None:
    """Refuse new tasks of a queue while so many wait in it."""
    _update(broker_url, as_json, create, name=name, max_waiting=tasks)


@commands.command("retention")
def retention(
    name: Name,
    days: Annotated[
        int | None,
        typer.Argument(
            min=0, max=MOST_DAYS, help="For how many days what completed is kept; 0: as the brokers say."
        ),
    ] = None,
    dead_letters: Annotated[
        int | None,
        typer.Option(
            "--dead-letters",
            min=0,
            max=MOST_DAYS,
            help="For how many days what failed, timed out or was lost is kept; 0: as the brokers say.",
        ),
    ] = None,
    create: Create = False,
    broker_url: CellsUrl = DEFAULT_URL,
    as_json: AsJson = False,
) -> None:
    """Keep a queue's finished tasks for a shorter time than brokers keep others."""
    if days is None and dead_letters is None:
        raise CommandError("give a number of days, --dead-letters, or both", status=2)
    changes = {"retention_days": days, "dead_letter_days": dead_letters}
    said = {field: value for field, value in changes.items() if value is not None}
    _update(broker_url, as_json, create, name=name, **said)


@commands.command("delete")
def delete(name: Name, broker_url: CellsUrl = DEFAULT_URL, as_json: AsJson = False) -> None:
    """Delete a queue that never had a task, with its limit."""
    from hyrex.v1 import queue_service_pb2, queue_service_pb2_grpc

    request = queue_service_pb2.DeleteQueueRequest(name=name)

    async def call(channel: "grpc.aio.Channel") -> Any:
        return await queue_service_pb2_grpc.QueueServiceStub(channel).DeleteQueue(request)

    connection.delete(url_for_queue(broker_url, name), call, "QUEUE_NOT_FOUND")
    if as_json:
        print_json({"queue": name, "deleted": True})
    else:
        say(f"deleted queue {name}")


@commands.command("purge")
def purge(
    name: Name,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    reason: Annotated[str, typer.Option(help="Why, for the record.")] = "",
    broker_url: CellsUrl = DEFAULT_URL,
    as_json: AsJson = False,
) -> None:
    """Cancel everything that waits in a queue; running tasks are left alone. Says how far it is."""
    from hyrex.v1 import queue_service_pb2, queue_service_pb2_grpc

    if not yes:
        typer.confirm(f"cancel every task that waits in {name!r}? (--yes does not ask)", abort=True, err=True)
    request = queue_service_pb2.PurgeQueueRequest(name=name, reason=reason, in_steps=True)

    async def call(channel: "grpc.aio.Channel") -> Any:
        return await queue_service_pb2_grpc.QueueServiceStub(channel).PurgeQueue(request)

    cancelled = 0
    while True:
        try:
            answer = ask(url_for_queue(broker_url, name), call, timeout_s=_STEP_TIMEOUT_S)
        except CommandError as error:
            rest = f"; {cancelled} tasks are cancelled, the same command goes on with the rest"
            raise CommandError(f"{error}{rest if cancelled else ''}", error.status) from None
        cancelled += answer.cancelled
        if not answer.next_step:
            break
        request.step = answer.next_step
        typer.echo(f"cancelled {cancelled} tasks so far", err=True)
    if as_json:
        print_json({"queue": name, "cancelled": cancelled})
    else:
        say(f"cancelled {cancelled} tasks of {name}")


def _update(broker_url: str, as_json: bool, create: bool | None, **changes: Any) -> None:
    """Change a queue. It must exist, so that a mistyped name makes no queue, unless `create` is True.

    `create` is None for a command that cannot make one.
    """
    from hyrex.cli.wire import queue_values
    from hyrex.v1 import queue_service_pb2, queue_service_pb2_grpc

    request = queue_service_pb2.UpdateQueueRequest(**changes)

    async def call(channel: "grpc.aio.Channel") -> Any:
        stub = queue_service_pb2_grpc.QueueServiceStub(channel)
        if not create:
            await _require(stub, request.name, "?" if create is None else "? --create makes it")
        return await stub.UpdateQueue(request)

    queue = queue_values(ask(url_for_queue(broker_url, request.name), call).queue)
    if as_json:
        print_json(queue)
    else:
        _print_queues([queue])


async def _require(stub: Any, name: str, remedy: str) -> None:
    """Check that the queue exists. Raises: CommandError with the remedy."""
    import grpc.aio

    from hyrex.transport.errors import call_failure
    from hyrex.v1 import queue_service_pb2

    try:
        await stub.GetQueue(queue_service_pb2.GetQueueRequest(name=name))
    except grpc.aio.AioRpcError as error:
        if call_failure(error).reason != "QUEUE_NOT_FOUND":
            raise
        raise CommandError(f"no queue {name!r}; is the name mistyped{remedy}") from None


def _print_queues(queues: list[dict[str, Any]]) -> None:
    columns = (
        "name",
        "queued",
        "delayed",
        "blocked",
        "max waiting",
        "running",
        "limit",
        "rate",
        "kept",
        "paused",
        "workers",
    )
    rows = [
        (
            queue["name"],
            f"over {queue['queued']}" if queue["queued_capped"] else queue["queued"],
            queue["delayed"],
            queue["blocked"],
            queue["max_waiting"],
            queue["running"],
            queue["concurrency_limit"],
            _rate_shown(queue),
            _kept_shown(queue),
            queue["paused"],
            queue["workers"],
        )
        for queue in queues
    ]
    print_table(columns, rows, "no queues yet")


def _rate_shown(queue: dict[str, Any]) -> str | None:
    if queue["rate"] is None:
        return None
    waits = "" if queue["next_token"] is None else f", next at {shown(queue['next_token'])}"
    return f"{queue['rate']}, burst {queue['burst']}{waits}"


def _kept_shown(queue: dict[str, Any]) -> str | None:
    """The terms that a queue has of its own."""
    days, dead_letters = queue["retention_days"], queue["dead_letter_days"]
    parts = ([f"{days} d"] if days else []) + ([f"dead letters {dead_letters} d"] if dead_letters else [])
    return ", ".join(parts) or None
