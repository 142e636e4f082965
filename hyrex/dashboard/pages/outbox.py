"""Refused rows of the outbox: what was enqueued in transactions and no task can be made of."""

from collections.abc import Iterable
from types import MappingProxyType
from typing import Any, Final
from urllib.parse import urlencode

from hyrex.dashboard.pages.action import Action, Done, Field, Form, Question, ids_of
from hyrex.dashboard.pages.machines import valid_id
from hyrex.dashboard.pages.page import Missing, Page, Visit
from hyrex.dashboard.render.values import query
from hyrex.v1 import admin_service_pb2 as pb

LISTED: Final = 100
_HERE: Final = "/outbox"


async def outbox(visit: Visit) -> Page:
    """Refused rows, newest first, of a queue if one is named. Raises: CallFailed."""
    queue, token = visit.query.get("queue", ""), visit.query.get("page", "")
    request = pb.ListRefusedRowsRequest(page_size=LISTED, page_token=token, queue=queue)
    listed = await visit.calls.read("admin", "ListRefusedRows", request)
    values = {
        "rows": listed.rows,
        "queue": queue,
        "beside_away": listed.beside_away,
        "retry_these": "/outbox/retry?" + urlencode([("id", row.task_id) for row in listed.rows]),
        "next_page": listed.next_page_token,
    }
    return Page("outbox.html", "Outbox", "outbox", values, live=_HERE + query(queue=queue, page=token))


async def _ask_retry(visit: Visit) -> Question:
    count = len(ids_of(visit))
    sentence = "Brokers try each minute anyway; this says at once what becomes of it."
    return Question(f"Try {_rows(count)} again?", sentence, "Try again", _HERE)


async def _retry(visit: Visit, form: Form) -> Done:
    return await _tried(visit, pb.RetryRefusedRowsRequest(task_ids=ids_of(visit)))


async def _ask_change(visit: Visit) -> Question:
    row = await _row(visit)
    fields = (
        Field("options", "Options", "json", row.options or "{}", "all that it is to have, as a JSON object"),
        Field("queue", "Queue", value=row.queue),
    )
    sentence = f"It was refused: {row.reason}"
    return Question(f"Change {row.name} and try it again?", sentence, "Change", _HERE, fields=fields)


async def _change(visit: Visit, form: Form) -> Done:
    row_id = valid_id(visit.wanted("id"))
    change = pb.RefusedRowChange(options=form.get("options", "{}"), queue=form.get("queue", "").strip())
    return await _tried(visit, pb.RetryRefusedRowsRequest(task_ids=[row_id], change=change))


async def _ask_dismiss(visit: Visit) -> Question:
    count = len(ids_of(visit))
    sentence = "Their tasks will never run." if count > 1 else "Its task will never run."
    return Question(f"Remove {_rows(count)} for good?", sentence, "Remove", _HERE, danger=True)


async def _dismiss(visit: Visit, form: Form) -> Done:
    request = pb.DismissRefusedRowsRequest(task_ids=ids_of(visit))
    answer = await visit.calls.act("admin", "DismissRefusedRows", request)
    gone = sum(each.outcome == pb.DISMISS_ROW_OUTCOME_DISMISSED for each in answer.results)
    if gone < len(answer.results):
        return Done(f"{_rows(gone)} removed; the others are no longer refused.", _HERE, bad=True)
    return Done(f"{_rows(gone).capitalize()} removed.", _HERE)


async def _row(visit: Visit) -> pb.RefusedRow:
    row_id = valid_id(visit.wanted("id"))
    request = pb.ListRefusedRowsRequest(task_id=row_id)
    found = (await visit.calls.read("admin", "ListRefusedRows", request)).rows
    if not found:
        raise Missing("there is no such refused row, or none that you may see")
    row: pb.RefusedRow = found[0]
    return row


async def _tried(visit: Visit, request: pb.RetryRefusedRowsRequest) -> Done:
    answer = await visit.calls.act("admin", "RetryRefusedRows", request)
    return Done(*_told(answer.results))


def _told(results: Iterable[Any]) -> tuple[str, str, bool]:
    """What became of them in words, the page to go to, and whether any was refused."""
    by_outcome: dict[int, list[Any]] = {}
    for each in results:
        by_outcome.setdefault(each.outcome, []).append(each)
    refused = by_outcome.get(pb.RETRY_ROW_OUTCOME_REFUSED, [])
    words = {
        pb.RETRY_ROW_OUTCOME_RELAYED: "relayed",
        pb.RETRY_ROW_OUTCOME_WAITING: "waiting for room in the queue",
        pb.RETRY_ROW_OUTCOME_NOT_FOUND: "no longer refused",
        pb.RETRY_ROW_OUTCOME_REFUSED: "refused again",
    }
    parts = [f"{_rows(len(by_outcome[each]))} {text}" for each, text in words.items() if each in by_outcome]
    why = f": {refused[0].reason}" if refused else "."
    said = ", ".join(parts)
    return said[:1].upper() + said[1:] + why, _HERE, bool(refused)


def _rows(count: int) -> str:
    return "one row" if count == 1 else f"{count:,} rows"


OUTBOX_ACTIONS: Final = MappingProxyType(
    {
        "/outbox/retry": Action(_ask_retry, _retry, pb.TOKEN_SCOPE_SUBMIT),
        "/outbox/change": Action(_ask_change, _change, pb.TOKEN_SCOPE_SUBMIT),
        "/outbox/dismiss": Action(_ask_dismiss, _dismiss, pb.TOKEN_SCOPE_SUBMIT),
    }
)
