"""Converts tasks, their runs and what they carry into plain values that can be printed as JSON."""

import base64
import json
from typing import Any

from hyrex.cli.output import duration, shown
from hyrex.cli.wire import moment, word
from hyrex.runtime.content import is_json
from hyrex.v1 import admin_service_pb2, task_pb2


def content(data: bytes, content_type: str, codec: str = "") -> Any:
    """A payload or result: its JSON value, or base64 if it is no JSON. What a codec has encoded is none."""
    if is_json(content_type, codec):
        try:
            return json.loads(data) if data else None
        except ValueError:
            pass
    encoded = {"base64": base64.b64encode(data).decode("ascii"), "content_type": content_type}
    return encoded | {"codec": codec} if codec else encoded


def task_values(task: task_pb2.Task, *, listed: bool = False) -> dict[str, Any]:
    """A task with its runs. `listed`: without payload and results, which lists leave out."""
    timeout = task.timeout.ToTimedelta().total_seconds() if task.HasField("timeout") else None
    values: dict[str, Any] = {
        "id": task.task_id,
        "name": task.name,
        "queue": task.queue,
        "status": word(task_pb2.TaskStatus, task.status),
        "waiting_for": task.waiting_for or None,
        "workflow_nodes": task.workflow_nodes or None,
        "priority": task.priority,
        "max_retries": task.max_retries,
        "timeout_seconds": timeout,
        "parent_id": task.parent_id or None,
        "root_id": task.root_id or None,
        "submitted": moment(task, "submitted_at"),
        "runs_at": moment(task, "run_at"),
        "expires": moment(task, "expires_at"),
        "idempotency_key": task.idempotency_key or None,
        "concurrency_key": task.concurrency_key or None,
        "max_per_key": task.max_per_key or None,
        "fair_key": task.fair_key or None,
        "outside": task.outside,
        "cancel_requested": task.cancel_requested,
        "hidden": task.hidden,
        "traceparent": task.traceparent or None,
        "labels": dict(task.labels),
        "payload": content(task.payload, task.content_type, task.codec) if task.payload else None,
        "runs": [run_values(run) for run in task.runs],
    }
    if listed:
        left_out = (values, "payload"), (values, "traceparent"), *((run, "result") for run in values["runs"])
        for holder, key in left_out:
            del holder[key]
    return values


def task_facts(values: dict[str, Any]) -> dict[str, Any]:
    """What a line for people says of a task; None is left out."""
    return {
        "queue": values["queue"],
        "priority": values["priority"],
        "retries": values["max_retries"],
        "timeout": duration(values["timeout_seconds"]) or None,
        "submitted": shown(values["submitted"]),
        "expires": shown(values["expires"]) if values["expires"] else None,
        "parent": values["parent_id"],
        "key": values["idempotency_key"],
        "concurrency key": _key_text(values),
        "fair key": values["fair_key"],
        "trace": _trace_id(values.get("traceparent") or ""),
        "hidden": "payload, results and errors (the token lacks the scope payload)"
        if values["hidden"]
        else None,
    }


def _key_text(values: dict[str, Any]) -> str | None:
    """The concurrency key, and how many of it may run at once: `ada (1 at once)`."""
    key = values["concurrency_key"]
    return f"{key} ({values['max_per_key']} at once)" if key else None


def _trace_id(traceparent: str) -> str | None:
    """The trace that a traceparent is of."""
    parts = traceparent.split("-")
    return parts[1] if len(parts) == 4 else None


def run_values(run: task_pb2.TaskRun) -> dict[str, Any]:
    """One run of a task."""
    started, finished = moment(run, "started_at"), moment(run, "finished_at")
    error = run.error if run.HasField("error") else None
    completed = run.status == task_pb2.RUN_STATUS_COMPLETED
    return {
        "run_number": run.run_number,
        "attempt_number": run.attempt_number,
        "status": word(task_pb2.RunStatus, run.status),
        "started": started,
        "finished": finished,
        "duration_seconds": (finished - started).total_seconds() if started and finished else None,
        "worker": run.worker or None,
        "result": content(run.result, run.content_type) if completed else None,
        "error": error and {"type": error.type, "message": error.message, "traceback": error.traceback},
        "reason": run.reason or None,
        "cause": word(task_pb2.CancelCause, run.cause) if run.cause else None,
        "progress": _progress_values(run.progress) if run.HasField("progress") else None,
    }


def _progress_values(told: task_pb2.RunProgress) -> dict[str, Any]:
    return {
        "done": told.done,
        "total": told.total if told.HasField("total") else None,
        "text": told.text,
        "updated": moment(told, "updated_at"),
    }


def why_values(answer: admin_service_pb2.WhyResponse) -> dict[str, Any]:
    """Why a task is not running, with the holders of its limit."""
    return {
        "status": word(task_pb2.TaskStatus, answer.status),
        "sentence": answer.sentence,
        "holders": [
            {
                "task_id": holder.task_id,
                "name": holder.name,
                "queue": holder.queue,
                "worker": holder.worker,
                "since": moment(holder, "since"),
            }
            for holder in answer.holders
        ],
    }
