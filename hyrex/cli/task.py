"""`hyrex task`: shows tasks, cancels them, runs them again. Sending is in task_send.py."""

import json
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from hyrex.cli.bulk import BulkOptions, bulk
from hyrex.cli.cells import url_for_task, url_of_one, urls_for_tasks
from hyrex.cli.connection import DEFAULT_URL, AsJson, CellsUrl, ask
from hyrex.cli.output import duration, print_json, print_list, print_table, printable, say, shown

if TYPE_CHECKING:
    import grpc.aio


commands = typer.Typer(help="Send tasks, look at them, cancel them, run them again.", no_args_is_help=True)
TaskIds = Annotated[list[str] | None, typer.Argument(metavar="[ID]...", help="Ids of tasks.")]
Where = Annotated[str, typer.Option(metavar="FILTER", help="All tasks that it fits, as in `task list`.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Only count them.")]
Yes = Annotated[bool, typer.Option("--yes", help="Do not ask.")]
_SHOWN_CHARACTERS: Final = 2000
"""Of arguments and labels; a payload may have 15 MiB."""
_NOT_DONE: Final = ("not_found", "not_final", "not_dead", "expired", "refused")
"""Outcomes with which a command ends with status 1."""


@commands.command("get")
def get(
    task_id: Annotated[str, typer.Argument(metavar="ID", help="The task's id.")],
    broker_url: CellsUrl = DEFAULT_URL,
    as_json: AsJson = False,
) -> None:
    """Show a task with every run of it, or what it waits for."""
    from hyrex.cli.wire_tasks import task_values

    task = task_values(task_of(url_for_task(broker_url, task_id), task_id))
    if as_json:
        print_json(task)
    else:
        print_task(task)


@commands.command("cancel")
def cancel(
    task_ids: TaskIds = None,
    where: Where = "",
    dry_run: DryRun = False,
    yes: Yes = False,
    reason: Annotated[str, typer.Option(help="Why, for the record.")] = "",
    broker_url: CellsUrl = DEFAULT_URL,
    as_json: AsJson = False,
) -> None:
    """Cancel tasks, whatever they are doing; or, with --where, all that a filter fits."""
    _change("cancel", where, task_ids, BulkOptions(broker_url, as_json, dry_run, yes, reason), reason=reason)


@commands.command("retry")
def retry(
    task_ids: TaskIds = None,
    where: Where = "",
    dry_run: DryRun = False,
    yes: Yes = False,
    broker_url: CellsUrl = DEFAULT_URL,
    as_json: AsJson = False,
) -> None:
    """Run finished tasks once more, with all their retries; or, with --where, all that a filter fits."""
    _change("retry", where, task_ids, BulkOptions(broker_url, as_json, dry_run, yes))


@commands.command("dismiss")
def dismiss(
    task_ids: TaskIds = None,
    where: Where = "",
    dry_run: DryRun = False,
    yes: Yes = False,
    reason: Annotated[str, typer.Option(help="Why, for the record of --where.")] = "",
    broker_url: CellsUrl = DEFAULT_URL,
    as_json: AsJson = False,
) -> None:
    """Take failed, timed-out and lost tasks off the list of failures; or, with --where, all that fit."""
    _change("dismiss", where, task_ids, BulkOptions(broker_url, as_json, dry_run, yes, reason))


def _change(kind: str, where: str, task_ids: list[str] | None, wanted: BulkOptions, **carried: str) -> None:
    """Cancel, retry or dismiss the tasks that are named, in each cell that has some of them; without
    names, all that the filter fits. `carried`: what the request has beside their ids."""
    from hyrex.cli.wire import word
    from hyrex.v1 import task_service_pb2, task_service_pb2_grpc

    if where or wanted.dry_run or not task_ids:
        bulk(kind, where, task_ids, replace(wanted, broker_url=url_of_one(wanted.broker_url, "--where")))
        return
    verb = kind.capitalize()
    request_type = getattr(task_service_pb2, f"{verb}TasksRequest")

    async def call(ids: Sequence[str], channel: "grpc.aio.Channel") -> Any:
        stub = task_service_pb2_grpc.TaskServiceStub(channel)
        return await getattr(stub, f"{verb}Tasks")(request_type(task_ids=ids, **carried))

    results: list[Any] = []
    for brokers, ids in urls_for_tasks(wanted.broker_url, task_ids).items():
        results += ask(brokers, partial(call, ids)).results
    outcome = getattr(task_service_pb2, f"{verb}Outcome")
    refused = [each.error.message for each in results if word(outcome, each.outcome) == "refused"]
    _print_outcomes(
        [(each.task_id, word(outcome, each.outcome)) for each in results], refused, wanted.as_json
    )


def _print_outcomes(outcomes: list[tuple[str, str]], refused: list[str], as_json: bool) -> None:
    """`refused`: what is told of tasks whose rows in an outbox were refused."""
    if as_json:
        print_list("results", [{"id": task_id, "outcome": outcome} for task_id, outcome in outcomes])
    else:
        print_table(("id", "outcome"), outcomes, "no tasks")
    if any(outcome == "expired" for _, outcome in outcomes):
        typer.echo("what has expired is sent again by `hyrex task replay ID`", err=True)
    for each in refused:
        typer.echo(printable(each), err=True)
    if any(outcome in _NOT_DONE for _, outcome in outcomes):
        raise typer.Exit(1)


def task_of(url: str, task_id: str) -> Any:
    """The task as brokers tell it. Raises CommandError."""
    from hyrex.v1 import task_service_pb2, task_service_pb2_grpc

    async def call(channel: "grpc.aio.Channel") -> Any:
        stub = task_service_pb2_grpc.TaskServiceStub(channel)
        return await stub.GetTask(task_service_pb2.GetTaskRequest(task_id=task_id))

    return ask(url, call).task


def last_error(task: dict[str, Any]) -> str:
    """The error of a task's newest run, as one text."""
    runs = task["runs"]
    return error_text(runs[-1]) if runs else ""


def error_text(run: dict[str, Any]) -> str:
    """A run's error, or why it was lost, cancelled or released."""
    if run["error"]:
        return f"{run['error']['type']}: {run['error']['message']}"
    if run["cause"] not in (None, "requested"):
        return f"{run['cause']}: {run['reason']}" if run["reason"] else run["cause"]
    return run["reason"] or ""


def print_task(task: dict[str, Any]) -> None:
    """Print a task with its runs, for people."""
    from hyrex.cli.wire_tasks import task_facts

    typer.echo(f"{printable(task['name'])} {task['id']}  {typer.style(task['status'], bold=True)}")
    if task["cancel_requested"]:
        say("a cancel was accepted; its worker has not obeyed yet")
    if task["waiting_for"]:
        say(f"waiting: {task['waiting_for']}")
    if task["runs_at"]:
        say(f"runs next at {shown(task['runs_at'])}")
    facts = task_facts(task).items()
    say("  ".join(f"{name} {value}" for name, value in facts if value is not None))
    if task["payload"] is not None:
        say(f"arguments: {_short_json(task['payload'])}")
    if task["labels"]:
        say(f"labels: {_short_json(task['labels'])}")
    runs = task["runs"]
    rows = [
        (
            run["run_number"],
            run["attempt_number"],
            run["status"],
            duration(run["duration_seconds"]),
            run["worker"],
            error_text(run),
        )
        for run in runs
    ]
    print_table(("run", "attempt", "outcome", "duration", "worker", "error"), rows, "no run yet")
    if runs and (told := runs[-1]["progress"]):
        amount = f"{told['done']:g}" + ("" if told["total"] is None else f" of {told['total']:g}")
        say(f"progress: {amount} {told['text']}".rstrip())
    if task["workflow_nodes"]:  # its own result says no more than whose results are the workflow's
        say(f"it is a workflow: `hyrex workflow get {task['id']}` shows its {task['workflow_nodes']} nodes")
    else:
        _print_end(runs)


def _short_json(value: Any) -> str:
    text = shown(json.dumps(value, ensure_ascii=False))
    return text if len(text) <= _SHOWN_CHARACTERS else f"{text[:_SHOWN_CHARACTERS]} … (--json prints all)"


def _print_end(runs: list[dict[str, Any]]) -> None:
    """The result, or the traceback of the newest run that has one."""
    if runs and runs[-1]["status"] == "completed":
        say("result:")
        print_json(runs[-1]["result"])
        return
    failed = [run for run in runs if run["error"] and run["error"]["traceback"]]
    if failed:
        say(f"traceback of run {failed[-1]['run_number']}:\n{failed[-1]['error']['traceback'].rstrip()}")
