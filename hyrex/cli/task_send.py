"""`hyrex task send`: sends a task by name and arguments, without the code that defines it."""

import json
import sys
from contextlib import suppress
from decimal import Decimal
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from hyrex.cli.cells import url_for_queue
from hyrex.cli.connection import DEFAULT_URL, AsJson, CellsUrl, ask
from hyrex.cli.errors import CommandError
from hyrex.cli.output import print_json, printable, say
from hyrex.cli.task import task_of
from hyrex.cli.worker import sessions

if TYPE_CHECKING:
    import grpc.aio

    from hyrex.v1 import task_pb2

MOST_RETRIES: Final = 1_000_000
TEN_YEARS_S: Final = 10 * 365 * 86_400


def send(
    name: Annotated[str, typer.Argument(metavar="NAME", help="The task's name.")],
    arguments: Annotated[
        str, typer.Argument(metavar="[JSON]", help='Its arguments, as {"parameter": value}; - reads stdin.')
    ] = "{}",
    queue: Annotated[str, typer.Option("-q", "--queue", help="The queue to put it in.")] = "default",
    priority: Annotated[int, typer.Option(min=1, max=10, help="1 to 10, higher first.")] = 5,
    max_retries: Annotated[
        int, typer.Option(min=0, max=MOST_RETRIES, help="Runs after the first failed one.")
    ] = 0,
    timeout: Annotated[
        float, typer.Option(min=0, max=TEN_YEARS_S, metavar="S", help="Seconds for a run; 0: no limit.")
    ] = 0,
    delay: Annotated[
        float, typer.Option(min=0, max=TEN_YEARS_S, metavar="S", help="Seconds before it may run.")
    ] = 0,
    expires_in: Annotated[
        float,
        typer.Option(
            min=0, max=TEN_YEARS_S, metavar="S", help="Seconds in which it must begin; 0: for ever."
        ),
    ] = 0,
    key: Annotated[str, typer.Option(help="Idempotency key: a second task with it is the first.")] = "",
    outside: Annotated[
        bool, typer.Option("--outside", help="No worker runs it: `task complete` ends it.")
    ] = False,
    wait: Annotated[
        float, typer.Option(min=0, max=TEN_YEARS_S, metavar="S", help="Wait for its end so long; 0: do not.")
    ] = 0,
    broker_url: CellsUrl = DEFAULT_URL,
    as_json: AsJson = False,
) -> None:
    """Send a task; its queue and options are those given here, not those of its code.

    With --wait the exit status is 0 only if it completed.
    """
    from hyrex.backend.ids import new_task_id
    from hyrex.v1 import task_pb2

    task = task_pb2.NewTask(
        task_id=new_task_id(),
        name=name,
        queue=queue,
        payload=json_payload(arguments),
        priority=priority,
        max_retries=max_retries,
        idempotency_key=key,
        outside=outside,
    )
    if timeout:
        task.timeout.FromMilliseconds(round(timeout * 1000))
    if delay:
        task.delay.FromMilliseconds(round(delay * 1000))
    if expires_in:
        task.expires_in.FromMilliseconds(round(expires_in * 1000))
    broker_url = url_for_queue(broker_url, queue)
    result = ask(broker_url, lambda channel: _submit(channel, task))
    if result.error.reason:
        wrong_arguments = result.error.reason == "INVALID_FIELD"
        raise CommandError(
            f"{result.error.message} ({result.error.reason})", status=2 if wrong_arguments else 1
        )
    if result.payload_differs:
        text = f"the key {key!r} belongs to a task with other arguments, {result.task_id}: nothing was sent"
        typer.echo(printable(text), err=True)
    if not outside and not as_json:
        _tell_wait(broker_url, result.task_id)
    if wait:
        _wait(broker_url, result.task_id, wait, as_json)
        return
    first, differ = result.task_id != task.task_id, result.payload_differs
    if as_json:
        print_json({"id": result.task_id, "deduplicated": first, "arguments_differ": differ})
    else:
        say(f"{'known by its key:' if first else 'sent'} {name} {result.task_id}")


def _tell_wait(broker_url: str, task_id: str) -> None:
    """Say on stderr what the task waits for, unless that is its turn; nothing if the token may not."""
    with suppress(CommandError):
        task = task_of(broker_url, task_id)
        if not task.waiting_for:
            return
        typer.echo(printable(f"it waits: {task.waiting_for}"), err=True)
        if not any(task.name in session.task_names for session in sessions(broker_url, ended=False)):
            told = "is its name mistyped? A workflow is sent by its code, an approval with --outside"
            typer.echo(told, err=True)


def json_payload(text: str) -> bytes:
    """The arguments in the form in which the SDK writes them, unless that would change a float.

    Raises: CommandError.
    """
    inexact: list[str] = []

    def number(written: str) -> float:
        read = float(written)
        if Decimal(written) != Decimal(repr(read)):
            inexact.append(written)
        return read

    try:
        text = sys.stdin.read() if text == "-" else text
        value = json.loads(
            text, parse_float=number, parse_constant=_no_constant, object_pairs_hook=_no_repeated_keys
        )
        compact = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
        payload = (text.strip() if inexact else compact).encode()
    except (ValueError, RecursionError) as error:
        raise CommandError(f"the arguments are not JSON: {error}; got {text[:100]!r}", status=2) from None
    if not isinstance(value, dict):
        raise CommandError(
            f'the arguments must be an object {{"parameter": value}}, got {text[:100]!r}', status=2
        )
    return payload


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is no JSON number")


def _no_repeated_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        keys = [key for key, _ in pairs]
        raise ValueError(f"key {next(key for key in keys if keys.count(key) > 1)!r} occurs twice")
    return found


async def _submit(channel: "grpc.aio.Channel", task: "task_pb2.NewTask") -> Any:
    from hyrex.v1 import task_service_pb2, task_service_pb2_grpc

    request = task_service_pb2.SubmitTasksRequest(tasks=[task])
    return (await task_service_pb2_grpc.TaskServiceStub(channel).SubmitTasks(request)).results[0]


def _wait(broker_url: str, task_id: str, wait_s: float, as_json: bool) -> None:
    """Print the task when it has ended, or its present state after `wait_s`."""
    from hyrex.cli.task import print_task
    from hyrex.cli.wire_tasks import task_values

    task = task_values(ask(broker_url, lambda channel: _ended(channel, task_id, wait_s), wait_s + 10))
    if as_json:
        print_json(task)
    else:
        print_task(task)
    if task["status"] != "completed":
        raise typer.Exit(1)


async def _ended(channel: "grpc.aio.Channel", task_id: str, wait_s: float) -> Any:
    import grpc.aio

    from hyrex.cli.wire import word
    from hyrex.status import FINAL
    from hyrex.v1 import task_pb2, task_service_pb2, task_service_pb2_grpc

    stub = task_service_pb2_grpc.TaskServiceStub(channel)
    watch = stub.WatchTasks(task_service_pb2.WatchTasksRequest(task_ids=[task_id]), timeout=wait_s)
    try:
        async for frame in watch:
            if any(word(task_pb2.TaskStatus, task.status) in FINAL for task in frame.tasks):
                break
    except grpc.aio.AioRpcError as error:
        if error.code() is not grpc.StatusCode.DEADLINE_EXCEEDED:
            raise
    return (await stub.GetTask(task_service_pb2.GetTaskRequest(task_id=task_id))).task
