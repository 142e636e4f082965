"""What a run tells user code of itself."""

import json
from collections.abc import Mapping
from dataclasses import fields
from datetime import UTC, datetime
from typing import Any, Final
from uuid import UUID

from hyrex.codec import PayloadInfo
from hyrex.context import HyrexContext, HyrexWorkflowContext
from hyrex.errors import PayloadUnavailable
from hyrex.task import HyrexTask
from hyrex.worker.shared.runs import NodeOfRun, Run

_SAME_IN_CONTEXT: Final = ({*Run.__struct_fields__} & {each.name for each in fields(HyrexContext)}) - {
    "task_id",
    "parent_id",
    "root_id",
    "headers",
}
"""What the context tells of a run as it is; the others have another form there."""


def context_of(run: Run, worker: str, began: float, task: HyrexTask[..., Any] | None = None) -> HyrexContext:
    """The context of a run of this task that began then (Unix seconds)."""
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
        workflow=None if run.node is None else _workflow_of(run, run.node, task),
        **{name: getattr(run, name) for name in _SAME_IN_CONTEXT},
    )


def _workflow_of(run: Run, node: NodeOfRun, task: HyrexTask[..., Any] | None) -> HyrexWorkflowContext:
    def arguments() -> Mapping[str, Any]:
        content = node.arguments
        if node.codec:
            codecs = task._stack.codecs if task is not None else None
            if codecs is None:
                raise PayloadUnavailable(
                    f"arguments of workflow {node.workflow} have the codec {node.codec!r}, and this app has "
                    "none: HyrexApp(codec=)"
                )
            content = codecs.decode(node.codec, content, PayloadInfo(node.workflow, "arguments"))
        found: Mapping[str, Any] = json.loads(content or b"{}")
        return found

    return HyrexWorkflowContext(UUID(run.root_id), node.workflow, node.node, arguments)
