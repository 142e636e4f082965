"""The RPCs of AdminService about refused rows of the outbox. Who may read tasks of a queue sees those that
were to be in it; who may submit there may try them again, change and remove them."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from hyrex.v1 import admin_service_pb2 as wire
from hyrex_broker.domain.carried_rows import why_unfit
from hyrex_broker.domain.errors import InvalidField, PageTokenInvalid, PayloadOverLimit
from hyrex_broker.domain.model import TaskId
from hyrex_broker.domain.outbox import (
    MOST_OPTIONS_BYTES,
    OPTIONS,
    RefusedRow,
    RetryRowOutcome,
    RowChange,
    reason_of,
)
from hyrex_broker.domain.rights import ANYONE, Caller, Scope
from hyrex_broker.engine.audit import MOST_NAMED, Audit
from hyrex_broker.engine.refused_rows import RefusedRows
from hyrex_broker.service import fields, requests
from hyrex_broker.service.callers import current_caller
from hyrex_broker.service.pages import PageTokens
from hyrex_broker.service.receiving import Context
from hyrex_broker.service.times import timestamp_if_any
from hyrex_broker.storage.sqlstates import StatementRefused

_DEFAULT_PAGE: Final = 50
_AT_A_TIME: Final = 200
_MOST_LOOKED_AT: Final = 2000
"""Rows that are read for one page at most: the caller may see few of them, or few may fit its filter."""
_ROUNDS: Final = 5
"""A broker that tries a row again replaces it, and a change beside that may find neither: it looks again."""


@dataclass(frozen=True, slots=True)
class RefusedParts:
    """What these RPCs use."""

    rows: RefusedRows
    audit: Audit
    pages: PageTokens
    payload_limit_bytes: int


class RefusedRpcs:
    """A part of AdminServicer."""

    def __init__(self, parts: RefusedParts) -> None:
        self._refused_parts = parts

    async def ListRefusedRows(
        self, request: wire.ListRefusedRowsRequest, context: Context
    ) -> wire.ListRefusedRowsResponse:
        parts, caller = self._refused_parts, current_caller()
        size = requests.page_size(request.page_size, _DEFAULT_PAGE)
        wanted = (
            fields.short_text(request.name, "name") or "",
            fields.short_text(request.queue, "queue") or "",
        )
        if request.task_id:
            rows = await self._refused_parts.rows.of_ids([fields.task_id(request.task_id)])
            found = [_shown(row, caller) for row in rows.values() if caller.sees(row.queue)]
            return self._noted(wire.ListRefusedRowsResponse(rows=found), caller)
        filters = ["refused", *wanted]
        before = _row_before(await parts.pages.cursor(request.page_token, filters))
        answer, looked = wire.ListRefusedRowsResponse(), 0
        while True:
            page = await parts.rows.page(before, _AT_A_TIME)
            answer.beside_away |= not page.is_whole
            for row in page.rows:
                before = row.row_id
                if caller.sees(row.queue) and _fits(row, *wanted):
                    answer.rows.append(_shown(row, caller))
                    if len(answer.rows) == size:
                        break
            looked += len(page.rows)
            is_full = len(answer.rows) == size
            if is_full or len(page.rows) < _AT_A_TIME or looked >= _MOST_LOOKED_AT:
                break
        if is_full or len(page.rows) == _AT_A_TIME:
            answer.next_page_token = await parts.pages.token(before, filters)
        return self._noted(answer, caller)

    def _noted(self, answer: wire.ListRefusedRowsResponse, caller: Caller) -> wire.ListRefusedRowsResponse:
        """The answer, which may have shown the caller what rows carry."""
        if caller is not ANYONE and Scope.PAYLOAD in caller.scopes and answer.rows:
            ids = [row.task_id for row in answer.rows]
            self._refused_parts.audit.looked(caller.name, "outbox.list", ids)
        return answer

    async def RetryRefusedRows(
        self, request: wire.RetryRefusedRowsRequest, context: Context
    ) -> wire.RetryRefusedRowsResponse:
        ids, caller = requests.task_ids(request.task_ids), current_caller()
        change = self._change(request, caller) if request.HasField("change") else None
        rows = await self._own_rows(ids, caller)
        await self._record("outbox.retry" if change is None else "outbox.change", rows)
        if change is not None:
            rows = await self._changed(rows, change)
        outcomes = await self._refused_parts.rows.retry(list(rows.values())) if rows else {}
        absent = RetryRowOutcome.NOT_FOUND, ""
        return wire.RetryRefusedRowsResponse(
            results=[
                wire.RetryRowResult(
                    task_id=each, outcome=wire.RetryRowOutcome.ValueType(outcome), reason=reason
                )
                for each in ids
                for outcome, reason in [outcomes.get(each, absent)]
            ]
        )

    async def DismissRefusedRows(
        self, request: wire.DismissRefusedRowsRequest, context: Context
    ) -> wire.DismissRefusedRowsResponse:
        ids = requests.task_ids(request.task_ids)
        rows = await self._own_rows(ids, current_caller())
        await self._record("outbox.dismiss", rows)
        gone = await self._refused_parts.rows.dismiss(list(rows.values())) if rows else set()
        outcomes = wire.DISMISS_ROW_OUTCOME_NOT_FOUND, wire.DISMISS_ROW_OUTCOME_DISMISSED
        return wire.DismissRefusedRowsResponse(
            results=[wire.DismissRowResult(task_id=each, outcome=outcomes[each in gone]) for each in ids]
        )

    async def _own_rows(self, ids: Sequence[TaskId], caller: Caller) -> dict[TaskId, RefusedRow]:
        """Those of these rows that the caller may change; for it there are no others."""
        found = await self._refused_parts.rows.of_ids(ids) if ids else {}
        return {row_id: row for row_id, row in found.items() if caller.covers(row.queue)}

    async def _record(self, action: str, rows: dict[TaskId, RefusedRow]) -> None:
        """Note in the audit what is about to be done: afterwards the rows could not be looked up any more."""
        if rows:
            named = list(rows)[:MOST_NAMED]
            told = {"count": str(len(rows)), "tasks": " ".join(named)}
            await self._refused_parts.audit.record(current_caller().name, action, named[0], told)

    def _change(self, request: wire.RetryRefusedRowsRequest, caller: Caller) -> RowChange:
        """What a row is to have, checked as hyrex.enqueue checks it. Raises InvalidField, PayloadOverLimit,
        RightMissing."""
        change, limit = request.change, self._refused_parts.payload_limit_bytes
        if len(request.task_ids) != 1:
            raise InvalidField("task_ids", len(request.task_ids), "must be one id where a change is given")
        queue = fields.name(change.queue, "change.queue") if change.HasField("queue") else None
        if queue is not None:
            caller.require(Scope.SUBMIT, queue)
        payload = change.payload if change.HasField("payload") else None
        if payload is not None and len(payload) > limit:
            raise PayloadOverLimit("change.payload", len(payload), limit)
        if not change.HasField("options"):
            return RowChange(queue, payload)
        options = _options(change.options)
        delay = timedelta(seconds=options["delay_seconds"]) if "delay_seconds" in options else None
        return RowChange(queue, payload, json.dumps(options), _run_at(options), delay)

    async def _changed(self, rows: dict[TaskId, RefusedRow], change: RowChange) -> dict[TaskId, RefusedRow]:
        """The row with its change, if it is refused still."""
        for row_id, row in rows.items():
            for _ in range(_ROUNDS):
                try:
                    if await self._refused_parts.rows.change(row, change):
                        return rows
                except StatementRefused as error:
                    raise InvalidField("change", reason_of(error), "cannot be stored") from None
                if row_id not in await self._refused_parts.rows.of_ids([row_id]):
                    break
        return {}


def _fits(row: RefusedRow, name: str, queue: str) -> bool:
    return (not name or row.task == name) and (not queue or row.queue == queue)


def _shown(row: RefusedRow, caller: Caller) -> wire.RefusedRow:
    return wire.RefusedRow(
        task_id=row.row_id,
        name=row.task,
        queue=row.queue,
        reason=row.reason,
        enqueued_at=timestamp_if_any(row.enqueued_at),
        refused_at=timestamp_if_any(row.refused_at),
        size_bytes=row.size_bytes,
        options=(row.options or "") if Scope.PAYLOAD in caller.scopes else "",
        beside=row.beside,
    )


def _row_before(cursor: str | None) -> TaskId | None:
    try:
        return None if cursor is None else fields.task_id(cursor, "page_token")
    except InvalidField as error:
        raise PageTokenInvalid(error.message) from error


def _options(text: str) -> dict[str, Any]:
    field = "change.options"
    if len(text.encode()) > MOST_OPTIONS_BYTES:
        raise InvalidField(
            field, f"{len(text.encode())} bytes", f"must have at most {MOST_OPTIONS_BYTES} bytes"
        )
    try:
        options = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InvalidField(field, text[:80], f"must be a JSON object: {error}") from None
    if not isinstance(options, dict):
        raise InvalidField(field, text[:80], "must be a JSON object")
    unknown = next((name for name in options if name not in OPTIONS), None)
    if unknown is not None:
        raise InvalidField(f"{field}.{unknown[:80]}", "", f"is unknown; options are {', '.join(OPTIONS)}")
    if (reason := why_unfit("", "task", None, None, text)) is not None:
        raise InvalidField(field, text[:80], reason)
    if "concurrency_key" not in options and (lone := {"max_per_key", "on_full"} & options.keys()):
        raise InvalidField(f"{field}.{min(lone)}", "", "is for tasks with a concurrency_key")
    return options


def _run_at(options: dict[str, Any]) -> datetime | None:
    """The time of these options, if they have one."""
    if "run_at" not in options:
        return None
    said = options["run_at"]
    if "delay_seconds" in options:
        raise InvalidField("change.options.run_at", said, "must be left out with delay_seconds")
    try:
        found = datetime.fromisoformat(said)
        if found.tzinfo is None or not 1970 <= found.year < 2200:
            raise ValueError
        return found.astimezone(UTC)
    except (ValueError, OverflowError):
        words = "must be a time between 1970 and 2200 with its zone, as 2026-01-31T09:00:00Z"
        raise InvalidField("change.options.run_at", said, words) from None
