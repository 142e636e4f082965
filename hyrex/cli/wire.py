"""Converts wire messages into plain values that can be printed as JSON. Times are ISO 8601 in UTC."""

import base64
import json
from datetime import UTC, datetime
from typing import Any

from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp

from hyrex.cli.output import duration, shown
from hyrex.rate import rate_text
from hyrex.runtime.content import is_json
from hyrex.transport.filters import filter_line
from hyrex.v1 import admin_service_pb2, queue_service_pb2, task_pb2


def word(enum: Any, number: int) -> str:
    """The name of an enum's value without its prefix, in lower case; an unknown number as it is."""
    try:
        name = str(enum.Name(number))
    except ValueError:
        return str(number)
    prefix = "_".join(enum.Name(0).split("_")[:-1]) + "_"
    return name.removeprefix(prefix).lower()


def moment(message: Message, field: str) -> datetime | None:
    """A timestamp field; None if it is absent."""
    if not message.HasField(field):
        return None
    stamp: Timestamp = getattr(message, field)
    return stamp.ToDatetime(tzinfo=UTC)


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
        "trace": trace_id(values.get("traceparent") or ""),
        "hidden": "payload, results and errors (the token lacks the scope payload)"
        if values["hidden"]
        else None,
    }


def _key_text(values: dict[str, Any]) -> str | None:
    """The concurrency key, and how many of it may run at once: `ada (1 at once)`."""
    key = values["concurrency_key"]
    return f"{key} ({values['max_per_key']} at once)" if key else None


def trace_id(traceparent: str) -> str | None:
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


def queue_values(queue: queue_service_pb2.Queue) -> dict[str, Any]:
    """A queue and what is in it."""
    return {
        "name": queue.name,
        "paused": queue.paused,
        "concurrency_limit": queue.concurrency_limit or None,
        "queued": queue.queued,
        "queued_capped": queue.queued_capped,
        "delayed": queue.delayed,
        "blocked": queue.blocked,
        "running": queue.running,
        "workers": queue.workers,
        "max_waiting": queue.max_waiting or None,
        "retention_days": queue.retention_days or None,
        "dead_letter_days": queue.dead_letter_days or None,
        "rate": rate_text(queue.rate.count, queue.rate.period.ToTimedelta().total_seconds())
        if queue.HasField("rate")
        else None,
        "burst": queue.rate.burst if queue.HasField("rate") else None,
        "next_token": moment(queue, "next_token_at"),
    }


def worker_values(session: admin_service_pb2.WorkerSession) -> dict[str, Any]:
    """A worker session."""
    return {
        "session_id": session.session_id,
        "name": session.worker_name,
        "host": session.host,
        "pid": session.pid,
        "sdk": session.sdk,
        "queues": list(session.queue_patterns),
        "tasks": sorted(session.task_names),
        "slots": session.slots or session.capacity,
        "capacity": session.capacity,
        "running": session.running,
        "fetched": session.fetched,
        "broker": session.broker,
        "started": moment(session, "started_at"),
        "expires": moment(session, "expires_at"),
        "draining": session.draining,
        "ended": moment(session, "ended_at"),
        "end_reason": session.end_reason or None,
    }


def broker_values(broker: admin_service_pb2.Broker) -> dict[str, Any]:
    """A broker."""
    return {
        "id": broker.broker_id,
        "name": broker.name,
        "address": broker.address,
        "started": moment(broker, "started_at"),
        "seen": moment(broker, "seen_at"),
        "workers": broker.workers,
        "version": broker.version,
    }


def operation_values(operation: admin_service_pb2.BulkOperation) -> dict[str, Any]:
    """A bulk operation."""
    return {
        "id": operation.operation_id,
        "action": word(admin_service_pb2.BulkAction, operation.action),
        "filter": filter_line(operation.filter).text(),
        "state": word(admin_service_pb2.BulkState, operation.state),
        "reason": operation.reason or None,
        "who": operation.who or None,
        "matched": operation.matched,
        "done": operation.done,
        "started": moment(operation, "started_at"),
        "ended": moment(operation, "ended_at"),
        "looked_back_to": moment(operation, "looked_back_to"),
    }


def refused_row_values(row: admin_service_pb2.RefusedRow) -> dict[str, Any]:
    """A row of an outbox of which no task can be made."""
    return {
        "id": row.task_id,
        "task": row.name,
        "queue": row.queue,
        "reason": row.reason,
        "enqueued": moment(row, "enqueued_at"),
        "refused": moment(row, "refused_at"),
        "size_bytes": row.size_bytes,
        "options": json.loads(row.options) if row.options else None,
        "beside": row.beside,
    }


def cluster_values(frame: admin_service_pb2.WatchClusterResponse) -> dict[str, Any]:
    """The cluster at one moment."""
    return {
        "at": moment(frame, "at"),
        "queues": [_activity_values(each) for each in frame.queues],
        "queues_capped": frame.queues_capped,
        "workers": [
            worker_values(each.session) | {"runs": [_running_values(run) for run in each.runs]}
            for each in frame.workers
        ],
        "workers_capped": frame.workers_capped,
        "brokers": [broker_values(each) for each in frame.brokers],
        "needs": [
            {
                "kind": word(admin_service_pb2.NeedKind, need.kind),
                "queue": need.queue or None,
                "name": need.name or None,
                "sentence": need.sentence,
                "remedy": need.remedy,
                "since": moment(need, "since"),
            }
            for need in frame.needs
        ],
    }


def _activity_values(activity: admin_service_pb2.QueueActivity) -> dict[str, Any]:
    return queue_values(activity.queue) | {
        "oldest_ready": moment(activity, "oldest_ready_at"),
        "submitted_per_second": activity.submitted_per_s,
        "completed_per_second": activity.completed_per_s,
        "failed_per_second": activity.failed_per_s,
    }


def _running_values(run: admin_service_pb2.RunningTask) -> dict[str, Any]:
    return {
        "task_id": run.task_id,
        "name": run.name,
        "queue": run.queue,
        "since": moment(run, "since"),
        "run_number": run.run_number,
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


def token_values(token: admin_service_pb2.Token) -> dict[str, Any]:
    """A token, without its secret."""
    return {
        "name": token.name,
        "scopes": [word(admin_service_pb2.TokenScope, scope) for scope in token.scopes],
        "queues": list(token.queue_patterns),
        "ending": token.ending,
        "created": moment(token, "created_at"),
        "expires": moment(token, "expires_at"),
        "revoked": moment(token, "revoked_at"),
    }


def audit_values(entry: admin_service_pb2.AuditEntry) -> dict[str, Any]:
    """An entry of the audit."""
    return {
        "at": moment(entry, "at"),
        "who": entry.who,
        "action": entry.action,
        "object": entry.object,
        "details": dict(entry.details),
    }
