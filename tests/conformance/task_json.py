"""A task of the wire as AGENT.md writes it."""

import json
from typing import Any

from hyrex.v1 import task_pb2

STATUS_PREFIX = "TASK_STATUS_"
RUN_PREFIX = "RUN_STATUS_"


def task_json(task: task_pb2.Task) -> dict[str, Any]:
    """The object T of AGENT.md."""
    return {
        "task_id": task.task_id,
        "name": task.name,
        "queue": task.queue,
        "priority": task.priority,
        "max_retries": task.max_retries,
        "status": task_pb2.TaskStatus.Name(task.status).removeprefix(STATUS_PREFIX),
        "parent_id": task.parent_id,
        "root_id": task.root_id,
        "payload": parsed(task.payload),
        "content_type": task.content_type,
        "idempotency_key": task.idempotency_key,
        "headers": dict(task.headers),
        "labels": dict(task.labels),
        "cancel_requested": task.cancel_requested,
        "waiting_for": task.waiting_for,
        "concurrency_key": task.concurrency_key,  # these are of no agent, only of what the driver looks up
        "fair_key": task.fair_key,
        "node": task.node,
        "runs": [run_json(run) for run in task.runs],
    }


def run_json(run: task_pb2.TaskRun) -> dict[str, Any]:
    """The object R of AGENT.md."""
    error = run.error
    told = {"type": error.type, "message": error.message, "traceback": error.traceback}
    return {
        "run_number": run.run_number,
        "attempt_number": run.attempt_number,
        "status": task_pb2.RunStatus.Name(run.status).removeprefix(RUN_PREFIX),
        "result": parsed(run.result),
        "error": told if run.HasField("error") else None,
        "reason": run.reason,
        "worker": run.worker,
    }


def parsed(encoded: bytes) -> Any:
    """JSON, or None for nothing; what is not JSON is shown as text."""
    if not encoded:
        return None
    try:
        return json.loads(encoded)
    except ValueError:
        return {"not json": encoded[:100].decode(errors="replace")}
