"""`hyrex bulk`: cancels and retries of all tasks that a filter fits, which brokers work through."""

from typing import Annotated

import typer

from hyrex.cli.bulk import BULK_CALL_S
from hyrex.cli.connection import DEFAULT_URL, AsJson, BrokerUrl, ask_admin
from hyrex.cli.output import print_json, print_list, print_table, say

commands = typer.Typer(
    help="Cancels and retries of all tasks that a filter fits, begun by `hyrex task cancel|retry --where`.",
    no_args_is_help=True,
)
OperationId = Annotated[str, typer.Argument(metavar="ID", help="The operation's id, from the list.")]


@commands.command("list")
def list_operations(
    limit: Annotated[int, typer.Option(min=1, max=1000, help="How many at most.")] = 20,
    page: Annotated[str, typer.Option(metavar="TOKEN", help="The page after one printed before.")] = "",
    broker_url: BrokerUrl = DEFAULT_URL,
    as_json: AsJson = False,
) -> None:
    """List bulk operations, newest first."""
    from hyrex.cli.wire import operation_values
    from hyrex.v1 import admin_service_pb2

    request = admin_service_pb2.ListBulkOperationsRequest(page_size=limit, page_token=page)
    answer = ask_admin(broker_url, "ListBulkOperations", request, BULK_CALL_S)
    operations = [operation_values(each) for each in answer.operations]
    if as_json:
        print_list("operations", operations, answer.next_page_token)
        return
    columns = ("id", "action", "filter", "state", "done", "matched", "started", "who", "reason")
    rows = [tuple(operation[column] for column in columns) for operation in operations]
    print_table(columns, rows, "no bulk operations")
    if answer.next_page_token:
        say(f"more: --page {answer.next_page_token}")


@commands.command("stop")
def stop(operation_id: OperationId, broker_url: BrokerUrl = DEFAULT_URL, as_json: AsJson = False) -> None:
    """Stop a bulk operation; what it has done stays done."""
    from hyrex.cli.wire import operation_values
    from hyrex.v1 import admin_service_pb2

    request = admin_service_pb2.StopBulkOperationRequest(operation_id=operation_id)
    operation = operation_values(ask_admin(broker_url, "StopBulkOperation", request, BULK_CALL_S).operation)
    if as_json:
        print_json(operation)
    else:
        say(f"{operation['state']}: {operation['done']} tasks are done")
