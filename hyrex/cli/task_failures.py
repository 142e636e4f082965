"""`hyrex task failures`: what fails, by its kind."""

from typing import TYPE_CHECKING, Any

from hyrex.cli.connection import DEFAULT_URL, AsJson, BrokerUrl, ask
from hyrex.cli.output import print_json, print_table, say, shown

if TYPE_CHECKING:
    import grpc.aio

    from hyrex.transport.failures import Kind


def failures(broker_url: BrokerUrl = DEFAULT_URL, as_json: AsJson = False) -> None:
    """Print the failures of the last 24 hours by their kind, with the filter that retries each."""
    from hyrex.transport.failures import EVERY_FAILURE, kinds_of
    from hyrex.v1 import task_service_pb2_grpc

    async def call(channel: "grpc.aio.Channel") -> Any:
        return await task_service_pb2_grpc.TaskServiceStub(channel).ListTasks(EVERY_FAILURE)

    answer = ask(broker_url, call)
    kinds, more = [_values(kind) for kind in kinds_of(answer.tasks)], bool(answer.next_page_token)
    if as_json:
        print_json({"kinds": kinds, "more": more})
        return
    rows = [tuple(kind[column] for column in ("count", "last", "error", "filter")) for kind in kinds]
    print_table(("count", "last", "last error", "filter"), rows, "no task has failed in the last 24 hours")
    if more:
        say(f"counted among the newest {EVERY_FAILURE.page_size} failures; there are more")
    if kinds:
        say("retry all of a kind: hyrex task retry --where 'FILTER'")


def _values(kind: "Kind") -> dict[str, Any]:
    words = f"{kind.error_type}: {kind.said}" if kind.error_type else kind.said
    return {
        "count": kind.count,
        "first": kind.first,
        "last": kind.last,
        "error": shown(words if len(words) <= 100 else words[:99] + "…"),
        "filter": kind.line,
        "newest": kind.newest.task_id,
    }
