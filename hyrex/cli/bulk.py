"""Bulk forms of `hyrex task cancel`, `retry` and `dismiss`: all tasks that a filter fits.

The work is done by the brokers, and goes on whether or not this command does: Ctrl-C asks whether to stop it.
"""

import time
import uuid
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import typer

from hyrex.cli.connection import ask_admin
from hyrex.cli.errors import CommandError
from hyrex.cli.filter_words import filter_of
from hyrex.cli.output import print_json, say
from hyrex.filterline import FilterLine

if TYPE_CHECKING:
    from hyrex.v1 import admin_service_pb2

_LOOK_EVERY_S: Final = 0.5
BULK_CALL_S: Final = 30.0
"""For a call about bulk operations: a count, and a stop that waits for the page in work, may take longer."""


@dataclass(frozen=True, slots=True)
class BulkOptions:
    """What a bulk form is told beside the filter."""

    broker_url: str
    as_json: bool
    dry_run: bool
    yes: bool
    reason: str = ""


def bulk(action: str, where: str, task_ids: list[str] | None, options: BulkOptions) -> None:
    """Act on all tasks that a filter fits, after a count and a question. Raises CommandError."""
    line = _line(where, task_ids)
    count = _count(action, line, options)
    if options.dry_run:
        _print_count(action, line, count, options.as_json)
        return
    if not options.yes:
        number = f"{count.count}{' or more' if count.more else ''}"
        question = f"{action} {number} tasks that fit {line.text()!r}? (--yes does not ask)"
        typer.confirm(question, abort=True, err=True)
    operation = _followed(_started(action, line, options), options)
    _print_end(operation, options.as_json)


def _line(where: str, task_ids: list[str] | None) -> FilterLine:
    if task_ids:
        raise CommandError("name tasks by their ids, or by --where, not by both", status=2)
    if not where.strip():
        raise CommandError("name tasks by their ids, or by --where 'status:failed …'", status=2)
    return filter_of([where])


def _request(
    action: str, line: FilterLine, options: BulkOptions
) -> "admin_service_pb2.StartBulkOperationRequest":
    from hyrex.transport.filters import task_filter
    from hyrex.v1 import admin_service_pb2

    return admin_service_pb2.StartBulkOperationRequest(
        action=admin_service_pb2.BulkAction.Value(f"BULK_ACTION_{action.upper()}"),
        filter=task_filter(line),
        reason=options.reason,
    )


def _count(
    action: str, line: FilterLine, options: BulkOptions
) -> "admin_service_pb2.StartBulkOperationResponse":
    request = _request(action, line, options)
    request.dry_run = True
    answer: admin_service_pb2.StartBulkOperationResponse = ask_admin(
        options.broker_url, "StartBulkOperation", request, BULK_CALL_S
    )
    return answer


def _started(action: str, line: FilterLine, options: BulkOptions) -> "admin_service_pb2.BulkOperation":
    request = _request(action, line, options)
    request.operation_id = str(uuid.uuid4())  # so that a call that is repeated begins one operation
    operation: admin_service_pb2.BulkOperation = ask_admin(
        options.broker_url, "StartBulkOperation", request, BULK_CALL_S
    ).operation
    return operation


def _followed(
    operation: "admin_service_pb2.BulkOperation", options: BulkOptions
) -> "admin_service_pb2.BulkOperation":
    """Wait for the end of the operation, and say how far it is."""
    from hyrex.v1 import admin_service_pb2

    request = admin_service_pb2.GetBulkOperationRequest(operation_id=operation.operation_id)
    try:
        while operation.state == admin_service_pb2.BULK_STATE_RUNNING:
            time.sleep(_LOOK_EVERY_S)
            operation = ask_admin(options.broker_url, "GetBulkOperation", request, BULK_CALL_S).operation
            typer.echo(f"{operation.done} tasks so far", err=True)
    except KeyboardInterrupt:
        if typer.confirm("stop it? What is done stays done; otherwise it goes on without you", err=True):
            stop = admin_service_pb2.StopBulkOperationRequest(operation_id=operation.operation_id)
            operation = ask_admin(options.broker_url, "StopBulkOperation", stop, BULK_CALL_S).operation
    return operation


def _print_count(action: str, line: FilterLine, count: Any, as_json: bool) -> None:
    if as_json:
        print_json({"action": action, "filter": line.text(), "count": count.count, "more": count.more})
        return
    say(f"{count.count}{' or more' if count.more else ''} tasks would be {_PAST[action]}")


def _print_end(operation: "admin_service_pb2.BulkOperation", as_json: bool) -> None:
    from hyrex.cli.wire import operation_values

    values = operation_values(operation)
    if as_json:
        print_json(values)
        return
    still = " so far" if values["state"] == "running" else ""
    say(f"{values['done']} tasks {_PAST[values['action']]}{still} ({values['state']})")


_PAST: Final = {"cancel": "cancelled", "retry": "queued again", "dismiss": "dismissed"}
