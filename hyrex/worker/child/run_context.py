"""What a run tells user code of itself."""

from dataclasses import fields
from datetime import UTC, datetime
from typing import Final
from uuid import UUID

from hyrex.context import HyrexContext
from hyrex.worker.shared.runs import Run

_SAME_IN_CONTEXT: Final = ({*Run.__struct_fields__} & {each.name for each in fields(HyrexContext)}) - {
    "task_id",
    "parent_id",
    "root_id",
    "headers",
}
"""What the context tells of a run as it is; the others have another form there."""


def context_of(run: Run, worker: str, began: float) -> HyrexContext:
    """The context of a run that began then (Unix seconds)."""
    task_id = UUID(run.task_id)
    return HyrexContext(
        task_id=task_id,
        task_name=run.name,
        parent_id=UUID(run.parent_id) if run.parent_id else None,
        root_id=task_id if run.root_id in ("", run.task_id) else UUID(run.root_id),
        timeout_seconds=run.timeout_ns / 1e9 if run.timeout_ns else None,
        queued=datetime.fromtimestamp(run.submitted_ns / 1e9, UTC),
        started=datetime.fromtimestamp(began, UTC),
        worker=worker,
        headers=run.headers or {},
        **{name: getattr(run, name) for name in _SAME_IN_CONTEXT},
    )
