"""Cancel or retry all tasks that a filter fits: a dry run first, then an operation of the brokers."""

import uuid
from types import MappingProxyType
from typing import Final

from hyrex.dashboard.pages.action import Action, Done, Field, Form, Question, reason_of, tasks_text
from hyrex.dashboard.pages.machines import valid_id
from hyrex.dashboard.pages.page import FormRefused, Page, Visit
from hyrex.dashboard.render.values import bulk_word, query
from hyrex.filterline import FilterLineError, parse
from hyrex.transport.filters import task_filter
from hyrex.v1 import admin_service_pb2 as admin

LISTED: Final = 100
SENTENCES: Final = MappingProxyType(
    {
        admin.BULK_ACTION_CANCEL: "What waits ends, what runs is told to stop, and none runs again.",
        admin.BULK_ACTION_DISMISS: "They leave the list of failures, and nothing else of them changes.",
        admin.BULK_ACTION_RETRY: "They run once more, with all their retries, under the same ids.",
    }
)
WITHOUT_STATUS: Final = MappingProxyType(
    {
        admin.BULK_ACTION_CANCEL: "The filter names no status: all that have not ended are meant.",
        admin.BULK_ACTION_DISMISS: "",
        admin.BULK_ACTION_RETRY: "The filter names no status: those that failed, timed out "
        "or were lost are meant.",
    }
)


async def operations(visit: Visit) -> Page:
    """Operations on many tasks, newest first. Raises: CallFailed."""
    request = admin.ListBulkOperationsRequest(page_size=LISTED)
    listed = await visit.calls.read("admin", "ListBulkOperations", request)
    values = {"operations": listed.operations}
    return Page("operations.html", "Bulk operations", "bulk", values, live="/operations")


async def operation(visit: Visit) -> Page:
    """One of them, with how far it is. Raises: Missing, CallFailed."""
    wanted = valid_id(visit.wanted("id"))
    request = admin.GetBulkOperationRequest(operation_id=wanted)
    answer = await visit.calls.read("admin", "GetBulkOperation", request)
    found = answer.operation
    title = f"{bulk_word(found.action)} many tasks"
    return Page("operation.html", title, "bulk", {"operation": found}, live="/operation" + query(id=wanted))


def action_of(kind: "admin.BulkAction.ValueType") -> Action:
    """Cancel or retry all that match."""

    async def ask(visit: Visit) -> Question:
        line = visit.query.get("filter", "")
        request = _request(kind, line)
        request.dry_run = True
        answer = await visit.calls.act("admin", "StartBulkOperation", request)
        more = "more than " if answer.more else ""
        meant = "" if request.filter.statuses else f" {WITHOUT_STATUS[kind]}"
        return Question(
            title=f"{bulk_word(kind)} {more}{tasks_text(answer.count)}?",
            sentence=f"{f'All that match {line}' if line else 'All tasks'}. {SENTENCES[kind]}{meant}",
            button=bulk_word(kind),
            back="/tasks" + query(filter=line),
            danger=kind == admin.BULK_ACTION_CANCEL,
            fields=(Field("reason", "Why", hint="for the record; may be empty"),),
            once=str(uuid.uuid4()),
        )

    async def do(visit: Visit, form: Form) -> Done:
        request = _request(kind, visit.query.get("filter", ""))
        request.reason = reason_of(form)
        request.operation_id = form.get("once", "")
        answer = await visit.calls.act("admin", "StartBulkOperation", request)
        return Done("It has begun.", "/operation" + query(id=answer.operation.operation_id))

    return Action(ask, do)


async def _ask_stop(visit: Visit) -> Question:
    back = "/operation" + query(id=valid_id(visit.wanted("id")))
    return Question("Stop it?", "What it has done stays done; the rest is left as it is.", "Stop", back, True)


async def _stop(visit: Visit, form: Form) -> Done:
    wanted = valid_id(visit.wanted("id"))
    request = admin.StopBulkOperationRequest(operation_id=wanted)
    await visit.calls.act("admin", "StopBulkOperation", request)
    return Done("It stops.", "/operation" + query(id=wanted))


def _request(kind: "admin.BulkAction.ValueType", line: str) -> admin.StartBulkOperationRequest:
    try:
        return admin.StartBulkOperationRequest(action=kind, filter=task_filter(parse(line)))
    except FilterLineError as error:
        raise FormRefused(str(error)) from None


BULK_ACTIONS: Final = MappingProxyType(
    {
        "/tasks/all/cancel": action_of(admin.BULK_ACTION_CANCEL),
        "/tasks/all/retry": action_of(admin.BULK_ACTION_RETRY),
        "/tasks/all/dismiss": action_of(admin.BULK_ACTION_DISMISS),
        "/operation/stop": Action(_ask_stop, _stop),
    }
)
