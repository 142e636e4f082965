"""`hyrex task list`: tasks that a filter fits, newest first."""

import time
from datetime import UTC
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from hyrex.cli.connection import DEFAULT_URL, AsJson, BrokerUrl, ask
from hyrex.cli.errors import CommandError
from hyrex.cli.filter_words import Words, filter_of
from hyrex.cli.output import print_list, print_table, say, shown
from hyrex.cli.task import last_error
from hyrex.filterline import STATUSES

if TYPE_CHECKING:
    import grpc.aio

    from hyrex.v1 import task_pb2, task_service_pb2

_LOOK_ON_S: Final = 15.0


def list_tasks(
    words: Words = None,
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
    from hyrex.cli.wire_tasks import task_values
    from hyrex.transport.filters import task_filter
    from hyrex.v1 import task_service_pb2

    line = filter_of(words)
    request = task_service_pb2.ListTasksRequest(
        page_size=limit,
        page_token=page,
        queue=queue,
        name=name,
        statuses=[_status_value(word) for word in status or ()],
        parent_id=parent,
        filter=task_filter(line) if line else None,
    )
    answer, found = _listed(broker_url, request)
    tasks = [task_values(task, listed=True) for task in found]
    if as_json:
        print_list("tasks", tasks, answer.next_page_token)
        return
    rows = [(t["id"], t["name"], t["queue"], t["status"], t["submitted"], last_error(t)) for t in tasks]
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


def _looked_back_to(answer: "task_service_pb2.ListTasksResponse") -> str:
    if not answer.HasField("looked_back_to"):
        return "a time that this broker does not tell"
    return shown(answer.looked_back_to.ToDatetime(UTC))


def _status_value(word: str) -> "task_pb2.TaskStatus.ValueType":
    from hyrex.v1 import task_pb2

    if word not in STATUSES:
        raise CommandError(f"no status {word!r}; there are: {', '.join(STATUSES)}", status=2)
    return task_pb2.TaskStatus.Value(f"TASK_STATUS_{word.upper()}")
