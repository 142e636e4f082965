"""`hyrex task replay`: sends a new task like an earlier one, with its arguments or others."""

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from hyrex.cli.cells import url_for_task
from hyrex.cli.connection import DEFAULT_URL, AsJson, CellsUrl, ask
from hyrex.cli.errors import CommandError
from hyrex.cli.output import print_json, say
from hyrex.cli.task_send import json_payload


def replay(
    task_id: Annotated[str, typer.Argument(metavar="ID", help="The earlier task.")],
    payload_file: Annotated[
        str, typer.Option(metavar="FILE", help="A file with other arguments, a JSON object; - reads stdin.")
    ] = "",
    broker_url: CellsUrl = DEFAULT_URL,
    as_json: AsJson = False,
) -> None:
    """Send a new task like an earlier one, which stays as it is; print the new id.

    It has the earlier one's name, queue, options and labels, without its key, start and parent.
    """
    from hyrex.backend.ids import new_task_id
    from hyrex.v1 import task_service_pb2, task_service_pb2_grpc

    payload = json_payload(_read(payload_file)) if payload_file else None
    request = task_service_pb2.ReplayTaskRequest(task_id=task_id, new_task_id=new_task_id(), payload=payload)

    async def call(channel: Any) -> Any:
        return await task_service_pb2_grpc.TaskServiceStub(channel).ReplayTask(request)

    result = ask(url_for_task(broker_url, task_id), call).result
    if result.error.reason:
        raise CommandError(f"{result.error.message} ({result.error.reason})")
    if as_json:
        print_json({"id": result.task_id, "replay_of": task_id})
    else:
        say(f"sent {result.task_id}, a replay of {task_id}")


def _read(name: str) -> str:
    """Raises: CommandError."""
    try:
        return sys.stdin.read() if name == "-" else Path(name).read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        raise CommandError(f"--payload-file {name}: {error}", status=2) from None
