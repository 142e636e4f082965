"""Converts wire messages into plain values that can be printed as JSON, those of tasks apart (`wire_tasks`).
Times are ISO 8601 in UTC."""

import json
from datetime import UTC, datetime
from typing import Any

from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp

from hyrex.rate import rate_text
from hyrex.transport.filters import filter_line
from hyrex.v1 import admin_service_pb2, queue_service_pb2


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
