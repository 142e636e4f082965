"""`hyrex task why` and `hyrex task tail`."""

import time
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from hyrex.cli.cells import url_for_task
from hyrex.cli.connection import DEFAULT_URL, AsJson, BrokerUrl, CellsUrl, ask, ask_admin
from hyrex.cli.filter_words import Words, filter_of
from hyrex.cli.output import print_json, print_line, print_table, say, shown
from hyrex.cli.task import last_error, task_of

if TYPE_CHECKING:
    import grpc.aio

BAD: Final = ("failed", "timed_out", "lost")
_LOOK_EVERY_S: Final = 1.0
_MOST_AT_ONCE: Final = 200
_LATE: Final = timedelta(seconds=30)
"""How much later than the time in its id a task may be stored and still be shown; for clocks, too."""


def why(
    task_id: Annotated[str, typer.Argument(metavar="ID", help="The task's id.")],
    broker_url: CellsUrl = DEFAULT_URL,
    as_json: AsJson = False,
) -> None:
    """Say why a task is not running now, and who holds the limit it waits for."""
    from hyrex.cli.wire_tasks import why_values
    from hyrex.v1 import admin_service_pb2

    url = url_for_task(broker_url, task_id)
    values = why_values(ask_admin(url, "Why", admin_service_pb2.WhyRequest(task_id=task_id)))
    if as_json:
        print_json(values)
        return
    error = _error_of(url, task_id) if values["status"] in BAD else ""
    say(f"{values['status']}: {error or values['sentence']}")
    if values["status"] in BAD:
        say(f"`hyrex task get {task_id}` shows its runs, `hyrex task retry {task_id}` runs it again")
    columns = ("task_id", "name", "queue", "worker", "since")
    if values["holders"]:
        rows = [tuple(holder[column] for column in columns) for holder in values["holders"]]
        print_table(("held by", *columns[1:]), rows, "")


def _error_of(url: str, task_id: str) -> str:
    """The first line of the error of a task's newest run; empty if it has none, or none for this token."""
    from hyrex.cli.wire_tasks import task_values

    return last_error(task_values(task_of(url, task_id))).partition("\n")[0]


def tail(
    words: Words = None,
    lines: Annotated[int, typer.Option("-n", "--lines", min=0, max=200, help="How many to begin with.")] = 10,
    once: Annotated[bool, typer.Option("--once", help="End after those.")] = False,
    broker_url: BrokerUrl = DEFAULT_URL,
    as_json: AsJson = False,
) -> None:
    """Print tasks that a filter fits as they come, and again when they change, until Ctrl-C."""
    from hyrex.transport.filters import task_filter
    from hyrex.v1 import task_service_pb2, task_service_pb2_grpc

    request = task_service_pb2.ListTasksRequest(page_size=max(lines, 1), filter=task_filter(filter_of(words)))

    async def call(channel: "grpc.aio.Channel") -> Any:
        return await task_service_pb2_grpc.TaskServiceStub(channel).ListTasks(request)

    told: dict[str, tuple[object, ...]] = {}
    began = datetime.now(UTC)
    found = list(ask(broker_url, call).tasks)
    _tell(found[:lines], told, as_json)
    told |= {task.task_id: _state(task) for task in found[lines:]}
    request.page_size = _MOST_AT_ONCE
    while not once:
        time.sleep(_LOOK_EVERY_S)
        request.created_after.FromDatetime(max(began, datetime.now(UTC) - timedelta(hours=1)) - _LATE)
        _tell(ask(broker_url, call).tasks, told, as_json)


def _tell(tasks: Any, told: dict[str, tuple[object, ...]], as_json: bool) -> None:
    """Print those that are new or have changed, the oldest first."""
    from hyrex.cli.wire_tasks import task_values

    for task in reversed(tasks):
        if told.get(task.task_id) == _state(task):
            continue
        told[task.task_id] = _state(task)
        values = task_values(task, listed=True)
        if as_json:
            print_line(values)
            continue
        words = (values["submitted"], values["id"], values["queue"], values["name"], values["status"])
        say("  ".join(map(shown, (*words, last_error(values)))).rstrip())


def _state(task: Any) -> tuple[object, ...]:
    return task.status, len(task.runs), task.runs[-1].run_number if task.runs else 0
