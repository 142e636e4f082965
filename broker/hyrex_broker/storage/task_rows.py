"""Makes views of tasks and their runs of the rows of `reads.sql`."""

import json
from collections.abc import Iterable, Iterator
from itertools import groupby
from typing import Any

from hyrex_broker.domain.model import CARRIED, CarriedOptions, TaskId
from hyrex_broker.domain.progress import ProgressView
from hyrex_broker.domain.states import Live, cause_of, standing
from hyrex_broker.domain.views import (
    HolderView,
    RunStatusView,
    RunView,
    TaskView,
)


def holder_of(row: Any) -> HolderView:
    """Who holds a seat or a slot."""
    return HolderView(
        TaskId(str(row["task_id"])), row["name"], row["queue"], row["worker"], row["assigned_at"]
    )


def views_of(rows: Iterable[Any]) -> Iterator[TaskView]:
    """Tasks of rows that are ordered by task, then by run."""
    for _, of_task in groupby(rows, key=lambda row: row["id"]):
        yield _view(list(of_task))


def _view(rows: list[Any]) -> TaskView:
    first = rows[0]
    return TaskView(
        task_id=TaskId(str(first["id"])),
        name=first["name"],
        queue=first["queue"],
        rank=first["rank"],
        max_retries=first["max_retries"],
        timeout_ms=first["timeout_ms"],
        state=standing(first["live"], first["live_run_number"], rows[-1]["outcome"]),
        parent_id=_optional_id(first["parent_id"]),
        root_id=_optional_id(first["root_id"]),
        submitted_at=first["submitted_at"],
        run_at=first["run_at"],
        cancel_requested=bool(first["cancel_requested"]),
        carried=CarriedOptions(**{name: first[name] for name in CARRIED}),
        idempotency_key=first["idempotency_key"],
        labels=texts_of(first["labels"]) or {},
        labels_left_out_bytes=first["labels_left_out_bytes"],
        payload=first["payload"],
        headers=texts_of(first["headers"]),
        dismissed=first["live"] is None and bool(rows[-1]["dismissed"]),
        trace_context=first["trace_context"],
        expires_at=first["expires_at"],
        runs=tuple(_runs(rows)),
        concurrency_key=first["concurrency_key"],
        max_per_key=first["max_per_key"] or 0,
        fair_key=first["fair_key"],
        is_outside=first["is_outside"],
        node=first["node"] or "",
        workflow_nodes=first["workflow_nodes"] or 0,
    )


def _runs(rows: list[Any]) -> Iterator[RunView]:
    for row in rows:
        if row["run_number"] is not None:
            yield _ended_run(row)
    if rows[0]["live"] == Live.LEASE:
        yield _running_run(rows[0])


def _ended_run(row: Any) -> RunView:
    return RunView(
        run_number=row["run_number"],
        attempt_number=row["attempt_number"],
        state=RunStatusView(row["outcome"]),
        started_at=row["started_at"],
        finished_at=row["finished_at"],
        worker=row["worker"] or "",
        result=row["result"],
        result_size_bytes=row["result_size_bytes"],
        content_type=row["result_content_type"],
        error_type=row["error_type"],
        error_place=row["error_place"],
        error_message=row["error_message"],
        traceback=row["traceback"],
        text_left_out_bytes=row["text_left_out_bytes"],
        reason=row["reason"],
        cause=cause_of(row["outcome"], row["cause"]),
    )


def _running_run(row: Any) -> RunView:
    return RunView(
        run_number=row["live_run_number"],
        attempt_number=row["live_attempt_number"],
        state=RunStatusView.RUNNING,
        started_at=row["assigned_at"],
        worker=row["live_worker"] or "",
        progress=_progress(row),
    )


def _progress(row: Any) -> ProgressView | None:
    if row["progress_at"] is None:
        return None
    return ProgressView(row["done"], row["total"], row["progress_text"], row["progress_at"])


def _optional_id(value: object) -> TaskId | None:
    return None if value is None else TaskId(str(value))


def texts_of(value: str | None) -> dict[str, str] | None:
    """Texts by name, of JSON; None where there are none."""
    if value is None:
        return None
    texts: dict[str, str] = json.loads(value)
    return texts
