"""Converts views of tasks, queues, sessions and brokers into wire messages."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from typing import Final

from google.protobuf.timestamp_pb2 import Timestamp

from hyrex.v1 import admin_service_pb2, queue_service_pb2, task_pb2
from hyrex_broker.domain.model import TaskId, priority_of
from hyrex_broker.domain.views import BrokerView, QueueView, RunView, SessionView, TaskView
from hyrex_broker.service.rates import rate_if_any
from hyrex_broker.service.times import duration_if_any, timestamp, timestamp_if_any

# A message may have 16 MiB; beyond this, results and tracebacks of older runs are left out.
_RUNS_BUDGET_BYTES: Final = 10 * 1024 * 1024


def task(view: TaskView, waiting_for: str = "", *, hidden: bool = False, told: bool = True) -> task_pb2.Task:
    """A task, with those parts of it that were read. `hidden`: without what it carries: payload, headers,
    results and errors, of which only the types are shown. `told`: unless False, with the messages of errors
    and the texts of progress."""
    return task_pb2.Task(
        task_id=view.task_id,
        name=view.name,
        queue=view.queue,
        priority=priority_of(view.rank),
        max_retries=view.max_retries,
        timeout=duration_if_any(view.timeout_ms),
        status=task_pb2.TaskStatus.ValueType(view.state),
        parent_id=view.parent_id or "",
        root_id=view.root_id or view.task_id,
        submitted_at=timestamp_if_any(view.submitted_at),
        run_at=timestamp_if_any(view.run_at),
        payload=b"" if hidden else view.payload or b"",
        idempotency_key=view.idempotency_key or "",
        headers={} if hidden else view.headers or {},
        labels=view.labels,
        runs=reversed(list(_runs_newest_first(view, hidden or not told))),
        waiting_for=waiting_for,
        cancel_requested=view.cancel_requested,
        hidden=hidden,
        dismissed=view.dismissed,
        concurrency_key=view.concurrency_key or "",
        max_per_key=view.max_per_key,
        fair_key=view.fair_key or "",
        outside=view.is_outside,
        node=view.node,
        workflow_nodes=view.workflow_nodes,
        traceparent=_traceparent(view.trace_context),
        expires_at=timestamp_if_any(view.expires_at),
        **view.carried.given(),
    )


def _traceparent(context: bytes | None) -> str:
    """The parts of a trace context (version, trace id, span id, flags) as W3C writes them."""
    if context is None:
        return ""
    digits = context.hex()
    return f"{digits[:2]}-{digits[2:34]}-{digits[34:50]}-{digits[50:]}"


def _runs_newest_first(view: TaskView, hidden: bool) -> Iterator[task_pb2.TaskRun]:
    left = _RUNS_BUDGET_BYTES
    for run in reversed(view.runs):
        left -= len(run.result or b"") + len(run.traceback or "") + len(run.error_message or "")
        yield _run(_without_texts(run) if hidden else run, whole=left >= 0 or run is view.runs[-1])


def _without_texts(run: RunView) -> RunView:
    """The same run without its result and the text of its progress, and of its error only the type."""
    progress = replace(run.progress, text="") if run.progress else None
    return replace(run, result=None, error_message=None, traceback=None, progress=progress)


def _run(run: RunView, *, whole: bool) -> task_pb2.TaskRun:
    return task_pb2.TaskRun(
        run_number=run.run_number,
        attempt_number=run.attempt_number,
        status=task_pb2.RunStatus.ValueType(run.state),
        result=(run.result or b"") if whole else b"",
        content_type=run.content_type or "",
        error=_error(run, whole=whole),
        reason=run.reason or "",
        cause=task_pb2.CancelCause.ValueType(run.cause or 0),
        started_at=timestamp_if_any(run.started_at),
        finished_at=timestamp_if_any(run.finished_at),
        worker=run.worker,
        progress=_progress(run),
    )


def _progress(run: RunView) -> task_pb2.RunProgress | None:
    told = run.progress
    if told is None:
        return None
    at = timestamp_if_any(told.updated_at)
    return task_pb2.RunProgress(done=told.done, total=told.total, text=told.text, updated_at=at)


def _error(run: RunView, *, whole: bool) -> task_pb2.RunError | None:
    if run.error_type is None and run.error_message is None and run.traceback is None:
        return None
    return task_pb2.RunError(
        type=run.error_type or "",
        place=run.error_place or "",
        message=run.error_message or "",
        traceback=(run.traceback or "") if whole else "",
    )


def made_at(task_id: TaskId) -> Timestamp:
    """The time in a task's id, at which it was made."""
    milliseconds = int(task_id[:8] + task_id[9:13], 16)
    return timestamp(datetime.fromtimestamp(milliseconds / 1000, UTC))


def queue(view: QueueView) -> queue_service_pb2.Queue:
    """A queue."""
    return queue_service_pb2.Queue(
        name=view.name,
        paused=view.paused,
        concurrency_limit=view.concurrency_limit,
        queued=view.queued,
        queued_capped=view.queued_capped,
        delayed=view.delayed,
        blocked=view.blocked,
        running=view.running,
        workers=view.workers,
        max_waiting=view.max_waiting,
        retention_days=view.retention_days,
        dead_letter_days=view.dead_letter_days,
        rate=rate_if_any(view.rate),
        next_token_at=timestamp_if_any(view.next_token_at),
    )


def session(view: SessionView) -> admin_service_pb2.WorkerSession:
    """A worker session."""
    return admin_service_pb2.WorkerSession(
        session_id=str(view.session_id),
        worker_name=view.worker_name,
        host=view.host,
        pid=view.pid,
        sdk=view.sdk,
        queue_patterns=view.queue_patterns,
        task_names=view.task_names,
        capacity=view.capacity,
        running=view.running,
        fetched=view.leases - view.running,
        slots=view.slots,
        broker=view.broker,
        started_at=timestamp_if_any(view.started_at),
        expires_at=timestamp_if_any(view.expires_at),
        draining=view.draining,
        ended_at=timestamp_if_any(view.ended_at),
        end_reason=view.end_reason or "",
    )


def broker(view: BrokerView) -> admin_service_pb2.Broker:
    """A broker."""
    return admin_service_pb2.Broker(
        broker_id=str(view.broker_id),
        name=view.name,
        address=view.address,
        started_at=timestamp_if_any(view.started_at),
        seen_at=timestamp_if_any(view.seen_at),
        workers=view.workers,
        version=view.version,
    )
