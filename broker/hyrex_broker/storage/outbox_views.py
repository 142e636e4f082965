"""Rows of the outbox as the tasks that they become (rule 41): an id is known from the caller's commit on."""

import json
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, Final

from hyrex_broker.domain.carried_rows import why_unfit
from hyrex_broker.domain.model import (
    CARRIED,
    DEFAULT_PRIORITY,
    NOTHING_CARRIED,
    CarriedOptions,
    TaskId,
    rank_of,
)
from hyrex_broker.domain.outbox import HeldBack, RefusedRow, why_waiting
from hyrex_broker.domain.states import TaskState
from hyrex_broker.domain.views import TaskView
from hyrex_broker.storage.pool import Database
from hyrex_broker.storage.refused import with_queues
from hyrex_broker.storage.statements import load

_SQL: Final = load("outbox")
_NAME_CHARACTERS: Final = 255


async def waiting_tasks(
    database: Database, task_ids: Sequence[TaskId], *, with_payload: bool
) -> list[TaskView]:
    """Those of these tasks that are in the outbox, by id. Raises StorageUnavailable."""
    return [_view(row) for row in await database.fetch(_SQL["waiting"], sorted(task_ids), with_payload)]


async def waiting_queues(database: Database, task_ids: Sequence[TaskId]) -> dict[TaskId, str]:
    """Their queues. Raises StorageUnavailable."""
    rows = await database.fetch(_SQL["waiting"], sorted(task_ids), False)
    return {TaskId(str(row["id"])): row["queue"] for row in rows}


async def refused_tasks(
    database: Database, task_ids: Sequence[TaskId], *, with_payload: bool
) -> list[TaskView]:
    """Those of these tasks whose rows were refused in the outbox beside the database. Raises
    StorageUnavailable."""
    if database.refused_beside is None or not task_ids:
        return []
    rows = await with_queues(database, await database.refused_beside(task_ids, with_payload))
    return [_refused_view(row) for row in rows]


def _unfit_view(row: Any, held: HeldBack | None) -> TaskView:
    """What no task can be made of, whether a broker has looked at it or not."""
    shown = RefusedRow(
        row_id=TaskId(str(row["id"])),
        task=row["task"][:_NAME_CHARACTERS],
        queue=row["queue"][:_NAME_CHARACTERS],
        reason=row["reason"] or "",
        enqueued_at=row["enqueued_at"],
        refused_at=row["held_at"],
        size_bytes=0,
        options=None,
        payload=row["payload"],
    )
    why = why_waiting(shown.row_id, held, shown.queue, shown.reason)
    return replace(_refused_view(shown), in_outbox=why, is_refused=held is HeldBack.REFUSED)


def _refused_view(row: RefusedRow) -> TaskView:
    """A task without its options: they may be what is wrong."""
    return TaskView(
        task_id=row.row_id,
        name=row.task,
        queue=row.queue,
        rank=rank_of(DEFAULT_PRIORITY),
        max_retries=0,
        timeout_ms=None,
        state=TaskState.QUEUED,
        parent_id=None,
        root_id=None,
        submitted_at=row.enqueued_at or row.refused_at or datetime.now(UTC),
        run_at=None,
        cancel_requested=False,
        carried=NOTHING_CARRIED,
        idempotency_key=None,
        labels={},
        payload=row.payload,
        headers=None,
        runs=(),
        in_outbox=why_waiting(row.row_id, HeldBack.REFUSED, row.queue, row.reason),
        is_refused=True,
    )


def _view(row: Any) -> TaskView:
    held = None if row["held"] is None else HeldBack(row["held"])
    if why_unfit(str(row["id"]), row["task"], row["queue"], row["run_at"], row["options"]) is not None:
        return _unfit_view(row, held)
    options = json.loads(row["options"])
    timeout_s = options.get("timeout_seconds")
    trace = options.get("trace_context") if row["payload"] is not None else None
    return TaskView(
        task_id=TaskId(str(row["id"])),
        name=row["task"],
        queue=row["queue"],
        # Callers may have written 5.0.
        rank=rank_of(int(options.get("priority", row["priority"] or DEFAULT_PRIORITY))),
        max_retries=int(options.get("max_retries", row["max_retries"] or 0)),
        timeout_ms=row["timeout_ms"] if timeout_s is None else int(timeout_s * 1000),
        state=TaskState.QUEUED if row["is_due"] else TaskState.SCHEDULED,
        parent_id=options.get("parent_id"),
        root_id=options.get("root_id"),
        submitted_at=row["enqueued_at"] or row["held_at"] or datetime.now(UTC),
        run_at=None if row["is_due"] else row["run_at"],
        cancel_requested=False,
        carried=CarriedOptions(**{name: options.get(name) for name in CARRIED}),
        idempotency_key=options.get("idempotency_key"),
        labels=options.get("labels", {}),
        payload=row["payload"],
        headers=options.get("headers") if row["payload"] is not None else None,
        runs=(),
        in_outbox=why_waiting(str(row["id"]), held, row["queue"], row["reason"]),
        is_refused=held is HeldBack.REFUSED,
        trace_context=None if trace is None else bytes.fromhex(trace),
        concurrency_key=options.get("concurrency_key"),
        max_per_key=int(options.get("max_per_key", 1)) if "concurrency_key" in options else 0,
        fair_key=options.get("fair_key"),
    )
