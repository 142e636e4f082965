"""`hyrex task complete`: ends a task that no worker runs, with a result or an error."""

from typing import Annotated, Any, Final

import typer

from hyrex.cli.cells import url_for_task
from hyrex.cli.connection import DEFAULT_URL, AsJson, CellsUrl, ask
from hyrex.cli.errors import CommandError
from hyrex.cli.output import print_json, say
from hyrex.runtime.content import compact_json

_SAID: Final = {
    "ended": "ended",
    "finished": "had ended already, or its time is over: nothing changed",
    "not_waiting": "waits for no call from outside: nothing changed",
    "not_found": "is unknown, or of a queue that is not for this token",
}


def complete(
    task_id: Annotated[str, typer.Argument(metavar="ID", help="The task that waits.")],
    result: Annotated[str | None, typer.Option(metavar="JSON", help="It completes with this result.")] = None,
    error: Annotated[str | None, typer.Option(metavar="TEXT", help="It fails with this error.")] = None,
    reason: Annotated[str, typer.Option(help="Who or what ended it, for the record.")] = "",
    broker_url: CellsUrl = DEFAULT_URL,
    as_json: AsJson = False,
) -> None:
    """End a task that no worker runs: an approval, or what waits for an event. Needs the scope complete.

    Exit status 1 if it had ended already, waits for no such call, or is unknown.
    """
    from hyrex.cli.wire import word
    from hyrex.completing import REFUSED
    from hyrex.v1 import task_service_pb2 as pb
    from hyrex.v1 import task_service_pb2_grpc

    if (result is None) == (error is None):
        raise CommandError("say how it ends: --result JSON, or --error TEXT", status=2)
    request = pb.CompleteTasksRequest(task_ids=[task_id], reason=reason)
    if result is not None:
        request.result.result = json_result(result)
    else:
        request.error.type, request.error.message = REFUSED, error or ""

    async def call(channel: Any) -> Any:
        return await task_service_pb2_grpc.TaskServiceStub(channel).CompleteTasks(request)

    (found,) = ask(url_for_task(broker_url, task_id), call).results
    outcome = word(pb.CompleteOutcome, found.outcome)
    if as_json:
        print_json({"id": task_id, "outcome": outcome})
    else:
        say(f"{task_id} {_SAID.get(outcome, outcome)}")
    if outcome != "ended":
        raise typer.Exit(1)


def json_result(text: str) -> bytes:
    """The value of --result. Raises: CommandError."""
    try:
        return compact_json(text)
    except ValueError as error:
        remedy = "must be a JSON value, for instance true or '\"text\"'"
        raise CommandError(f"--result {remedy}: {error}", status=2) from None
