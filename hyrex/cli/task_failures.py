"""`hyrex task failures`: what fails, by its kind."""

from typing import TYPE_CHECKING, Any, Final

from hyrex.cli.connection import DEFAULT_URL, AsJson, BrokerUrl, ask
from hyrex.cli.output import print_json, print_table, say, shown
from hyrex.runtime.shell import shell_word

if TYPE_CHECKING:
    import grpc.aio

    from hyrex.transport.failures import Failures, Kind

_COLUMNS: Final = ("count", "last", "status", "task", "error", "at")


def failures(broker_url: BrokerUrl = DEFAULT_URL, as_json: AsJson = False) -> None:
    """Print the failures of tasks sent in the last 24 hours by their kind, with commands that retry each."""
    from hyrex.transport.failures import EVERY_FAILURE, failures_in
    from hyrex.v1 import task_service_pb2_grpc

    async def call(channel: "grpc.aio.Channel") -> Any:
        return await task_service_pb2_grpc.TaskServiceStub(channel).ListTasks(EVERY_FAILURE)

    found = failures_in(ask(broker_url, call))
    if as_json:
        kinds = [_values(kind) for kind in found.kinds]
        print_json(
            {
                "kinds": kinds,
                "more": found.more,
                "looked_at": found.looked_at,
                "looked_back_to": found.looked_back_to,
            }
        )
    else:
        _print(found)


def _print(found: "Failures") -> None:
    plus = "+" if found.more else ""
    rows = [
        tuple(f"{value}{plus}" if column == "count" else value for column, value in _row(kind).items())
        for kind in found.kinds
    ]
    looked = f", looked back to {shown(found.looked_back_to)}" if found.looked_back_to else ""
    none = f"none found so far{looked}" if found.more else "none of the tasks sent in the last 24 hours"
    print_table(_COLUMNS, rows, none)
    if found.more and rows:
        say(f"counted among the newest {found.looked_at:,} failures{looked}; there may be more")
    if rows:
        say("\nretry all of a kind:")
    for kind in found.kinds:
        if kind.line:
            say(f"  hyrex task retry --where {shell_word(kind.line)}")
        else:
            say(f"  not {shown(kind.newest.name)} {shown(kind.error_type)}: {kind.why_no_line}")


def _row(kind: "Kind") -> dict[str, Any]:
    values = _values(kind)
    return {column: values[column] for column in _COLUMNS}


def _values(kind: "Kind") -> dict[str, Any]:
    from hyrex.cli.wire import word
    from hyrex.v1 import task_pb2

    words = f"{kind.error_type}: {kind.said}" if kind.error_type else kind.said
    return {
        "count": kind.count,
        "first": kind.first,
        "last": kind.last,
        "task": kind.newest.name,
        "status": word(task_pb2.TaskStatus, kind.newest.status),
        "error": words if len(words) <= 100 else words[:99] + "…",
        "at": kind.place or None,
        "filter": kind.line or None,
        "why_no_filter": kind.why_no_line or None,
        "newest": kind.newest.task_id,
    }
