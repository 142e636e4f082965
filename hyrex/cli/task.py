"""`hyrex task`: shows tasks, cancels them, runs them again. Sending is in task_send.py."""

import time
from datetime import UTC
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from hyrex.cli.connection import DEFAULT_URL, AsJson, BrokerUrl, ask
from hyrex.cli.errors import CommandError
from hyrex.cli.output import duration, print_json, print_list, print_table, printable, say, shown

if TYPE_CHECKING:
    import grpc.aio

    from hyrex.v1 import task_pb2, task_service_pb2

commands = typer.Typer(help="Send tasks, look at them, cancel them, run them again.", no_args_is_help=True)
TaskIds = Annotated[list[str], typer.Argument(metavar="ID...", help="Ids of tasks.")]
_LOOK_ON_S: Final = 15.0
STATUSES: Final = (
    "queued",
    "scheduled",
    "retrying",
    "running",
    "completed",
    "failed",
    "timed_out",
    "cancelled",
    "lost",
)


@commands.command("get")
def get(
    task_id: Annotated[str, typer.Argument(metavar="ID", help="The task's id.")],
    broker_url: BrokerUrl = DEFAULT_URL,
    as_json: AsJson = False,
) -> None:
    """Show a task with every run of it, or what it waits for."""
    from hyrex.cli.wire import task_values
    from hyrex.v1 import task_service_pb2, task_service_pb2_grpc

    async def call(channel: "grpc.aio.Channel") -> Any:
        stub = task_service_pb2_grpc.TaskServiceStub(channel)
        return await stub.GetTask(task_service_pb2.GetTaskRequest(task_id=task_id))

    task = task_values(ask(broker_url, call).task)
    if as_json:
        print_json(task)
    else:
        print_task(task)


@commands.command("list")
def list_tasks(
    queue: Annotated[str, typer.Option("-q", "--queue", help="Only this queue.")] = "",
    name: Annotated[str, typer.Option(help="Only this task name.")] = "",
    status: Annotated[list[str] | None, typer.Option(help=f"Only these: {', '.join(STATUSES)}.")] = None,
    parent: Annotated[str, typer.Option(metavar="ID", help="Only children of this task.")] = "",
    limit: Annotated[int, typer.Option(min=1, max=1000, help="How many at most.")] = 20,
    page: Annotated[str, typer.Option(metavar="TOKEN", help="The page after one printed before.")] = "",
    broker_url: BrokerUrl = DEFAULT_URL,
    as_json: AsJson = False,
) -> None:
    """List tasks, newest first. Where few fit, looks on for 15 s and says how far it came."""
    from hyrex.cli.wire import task_values
    from hyrex.v1 import task_service_pb2

    request = task_service_pb2.ListTasksRequest(
        page_size=limit,
        page_token=page,
        queue=queue,
        name=name,
        statuses=[_status_value(word) for word in status or ()],
        parent_id=parent,
    )

    answer, found = _listed(broker_url, request)
    tasks = [task_values(task, listed=True) for task in found]
    if as_json:
        print_list("tasks", tasks, answer.next_page_token)
        return
    rows = [(t["id"], t["name"], t["queue"], t["status"], t["submitted"], _last_error(t)) for t in tasks]
    print_table(("id", "name", "queue", "status", "submitted", "last error"), rows, "no tasks")
    if answer.next_page_token:
        if len(found) < limit:
            say(f"looked at everything back to {_looked_back_to(answer)}; older tasks were not looked at")
        say(f"more: --page {answer.next_page_token}")


def _listed(
    broker_url: str, request: "task_service_pb2.ListTasksRequest"
) -> "tuple[task_service_pb2.ListTasksResponse, list[task_pb2.Task]]":
    """The tasks of several pages, and the last page: a page may end for its time before it is full."""
    from hyrex.v1 import task_service_pb2_grpc

    async def call(channel: "grpc.aio.Channel") -> Any:
        return await task_service_pb2_grpc.TaskServiceStub(channel).ListTasks(request)

    limit, ends_at = request.page_size, time.monotonic() + _LOOK_ON_S
    found: list[task_pb2.Task] = []
    while True:
        answer = ask(broker_url, call)
        found += answer.tasks
        if not answer.next_page_token or len(found) >= limit or time.monotonic() >= ends_at:
            return answer, found
        request.page_token, request.page_size = answer.next_page_token, limit - len(found)
        typer.echo(f"looked back to {_looked_back_to(answer)}: {len(found)} so far", err=True)


@commands.command("cancel")
def cancel(
    task_ids: TaskIds,
    reason: Annotated[str, typer.Option(help="Why, for the record.")] = "",
    broker_url: BrokerUrl = DEFAULT_URL,
    as_json: AsJson = False,
) -> None:
    """Cancel tasks, whatever they are doing."""
    from hyrex.cli.wire import word
    from hyrex.v1 import task_service_pb2, task_service_pb2_grpc

    request = task_service_pb2.CancelTasksRequest(task_ids=task_ids, reason=reason)

    async def call(channel: "grpc.aio.Channel") -> Any:
        return await task_service_pb2_grpc.TaskServiceStub(channel).CancelTasks(request)

    results = ask(broker_url, call).results
    _print_outcomes(
        [(result.task_id, word(task_service_pb2.CancelOutcome, result.outcome)) for result in results],
        as_json,
    )


@commands.command("retry")
def retry(task_ids: TaskIds, broker_url: BrokerUrl = DEFAULT_URL, as_json: AsJson = False) -> None:
    """Run finished tasks once more, with all their retries."""
    from hyrex.cli.wire import word
    from hyrex.v1 import task_service_pb2, task_service_pb2_grpc

    request = task_service_pb2.RetryTasksRequest(task_ids=task_ids)

    async def call(channel: "grpc.aio.Channel") -> Any:
        return await task_service_pb2_grpc.TaskServiceStub(channel).RetryTasks(request)

    results = ask(broker_url, call).results
    _print_outcomes(
        [(result.task_id, word(task_service_pb2.RetryOutcome, result.outcome)) for result in results], as_json
    )


def _looked_back_to(answer: "task_service_pb2.ListTasksResponse") -> str:
    if not answer.HasField("looked_back_to"):
        return "a time that this broker does not tell"
    return shown(answer.looked_back_to.ToDatetime(UTC))


def _status_value(word: str) -> "task_pb2.TaskStatus.ValueType":
    from hyrex.v1 import task_pb2

    if word not in STATUSES:
        raise CommandError(f"no status {word!r}; there are: {', '.join(STATUSES)}", status=2)
    return task_pb2.TaskStatus.Value(f"TASK_STATUS_{word.upper()}")


def _print_outcomes(outcomes: list[tuple[str, str]], as_json: bool) -> None:
    if as_json:
        print_list("results", [{"id": task_id, "outcome": outcome} for task_id, outcome in outcomes])
    else:
        print_table(("id", "outcome"), outcomes, "no tasks")
    if any(outcome in ("not_found", "not_final") for _, outcome in outcomes):
        raise typer.Exit(1)


def _last_error(task: dict[str, Any]) -> str:
    runs = task["runs"]
    return _error_text(runs[-1]) if runs else ""


def _error_text(run: dict[str, Any]) -> str:
    if run["error"]:
        return f"{run['error']['type']}: {run['error']['message']}"
    return run["reason"] or ""


def print_task(task: dict[str, Any]) -> None:
    """Print a task with its runs, for people."""
    from hyrex.cli.wire import task_facts

    typer.echo(f"{printable(task['name'])} {task['id']}  {typer.style(task['status'], bold=True)}")
    if task["cancel_requested"]:
        say("a cancel was accepted; its worker has not obeyed yet")
    if task["waiting_for"]:
        say(f"waiting: {task['waiting_for']}")
    if task["runs_at"]:
        say(f"runs next at {shown(task['runs_at'])}")
    facts = task_facts(task).items()
    say("  ".join(f"{name} {value}" for name, value in facts if value is not None))
    runs = task["runs"]
    rows = [
        (
            run["run_number"],
            run["attempt_number"],
            run["status"],
            duration(run["duration_seconds"]),
            run["worker"],
            _error_text(run),
        )
        for run in runs
    ]
    print_table(("run", "attempt", "outcome", "duration", "worker", "error"), rows, "no run yet")
    _print_end(runs)


def _print_end(runs: list[dict[str, Any]]) -> None:
    """The result, or the traceback of the newest run that has one."""
    if runs and runs[-1]["status"] == "completed":
        say("result:")
        print_json(runs[-1]["result"])
        return
    failed = [run for run in runs if run["error"] and run["error"]["traceback"]]
    if failed:
        say(f"traceback of run {failed[-1]['run_number']}:\n{failed[-1]['error']['traceback'].rstrip()}")
