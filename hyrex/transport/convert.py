"""Wire messages to plain values and back."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from types import MappingProxyType
from typing import Final

from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from hyrex.backend.outgoing import Deduplicated, Outcome, Outgoing, Progress
from hyrex.backend.send_spec import SendSpec
from hyrex.runs import RunSnapshot, TaskError, TaskSnapshot
from hyrex.status import TaskStatus
from hyrex.transport.errors import item_error
from hyrex.v1 import task_pb2, task_service_pb2

__all__ = ["submit_frame", "submit_item", "submit_outcome", "submit_request", "task_state"]

# Fields as they stand on the wire, length-delimited but for the sequence: what differs from task to task is
# joined by hand, which costs half of making a message for it.
SEQUENCE_TAG: Final = b"\x08"  # StreamSubmitRequest.sequence: field 1
TASKS_TAG: Final = b"\x12"  # StreamSubmitRequest.tasks: field 2
UNARY_TASKS_TAG: Final = b"\x0a"  # SubmitTasksRequest.tasks: field 1
TASK_ID: Final = b"\x0a\x24"  # NewTask.task_id: field 1, 36 bytes
PAYLOAD_TAG: Final = b"\x22"  # NewTask.payload: field 4
SMALL: Final = tuple(bytes((n,)) if n < 0x80 else bytes((n & 0x7F | 0x80, n >> 7)) for n in range(1024))
ACCEPTED: Final = frozenset(
    {task_service_pb2.SUBMIT_OUTCOME_STORED, task_service_pb2.SUBMIT_OUTCOME_REPEATED}
)
STATUSES: Final = MappingProxyType(
    {
        number: TaskStatus(name.removeprefix("TASK_STATUS_").lower())
        for name, number in task_pb2.TaskStatus.items()
        if number
    }
)
RUN_STATUSES: Final = MappingProxyType(
    {
        number: TaskStatus(name.removeprefix("RUN_STATUS_").lower())
        for name, number in task_pb2.RunStatus.items()
        if number
    }
)


def submit_frame(sequence: int, items: bytes) -> bytes:
    """A StreamSubmitRequest of joined items."""
    return b"".join((SEQUENCE_TAG, _varint(sequence), items))


def submit_request(items: Sequence[bytes]) -> bytes:
    """A SubmitTasksRequest of items: its field for them is another one than a frame's."""
    return b"".join(part for item in items for part in (UNARY_TASKS_TAG, memoryview(item)[1:]))


def submit_item(outgoing: Outgoing) -> bytes:
    """The task as one item of a StreamSubmitRequest: they may be joined.

    Encoded messages may be concatenated, so what all sends of one task share is encoded once.
    """
    spec = outgoing.spec
    shared = spec.encoded
    if shared is None:
        shared = spec.encoded = _options(spec)
    payload = outgoing.payload
    body = b"".join((TASK_ID, outgoing.task_id.encode(), PAYLOAD_TAG, _varint(len(payload)), payload, shared))
    if outgoing.root_id:
        family = task_pb2.NewTask(parent_id=outgoing.parent_id, root_id=outgoing.root_id)
        body += family.SerializeToString()
    return TASKS_TAG + _varint(len(body)) + body


def _options(spec: SendSpec) -> bytes:
    config, options = spec.config, spec.options
    shared = task_pb2.NewTask(
        name=config.name, queue=config.queue, priority=config.priority, max_retries=config.max_retries
    )
    if config.timeout_seconds is not None:
        shared.timeout.CopyFrom(_duration(config.timeout_seconds))
    if options.idempotency_key is not None:
        shared.idempotency_key = options.idempotency_key
    if options.delay is not None:
        shared.delay.CopyFrom(_duration(options.delay.total_seconds()))
    if options.run_at is not None:
        shared.run_at.FromDatetime(options.run_at)
    shared.headers.update(options.headers)
    shared.labels.update(options.labels)
    if config.retry_backoff is not None:
        shared.retry_delay.CopyFrom(_duration(spec.task.retry_delay_s(1)))
    return shared.SerializeToString()


def _varint(value: int) -> bytes:
    if value < len(SMALL):
        return SMALL[value]
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def _duration(seconds: float) -> Duration:
    found = Duration()
    found.FromTimedelta(timedelta(seconds=seconds))
    return found


def submit_outcome(outgoing: Outgoing, result: task_service_pb2.SubmitResult) -> Outcome:
    """What became of one submitted task."""
    if result.outcome in ACCEPTED:
        return Progress.STORED
    if result.outcome == task_service_pb2.SUBMIT_OUTCOME_DEDUPLICATED:
        return Deduplicated(result.task_id, STATUSES.get(result.status), result.payload_differs)
    if result.HasField("error") or result.outcome == task_service_pb2.SUBMIT_OUTCOME_REJECTED:
        error = result.error
        return item_error(outgoing.spec.config.name, error.message, error.reason, dict(error.metadata))
    return Progress.STORED


def task_state(task: task_pb2.Task) -> TaskSnapshot:
    """A task as read from a broker."""
    return TaskSnapshot(
        task_id=task.task_id,
        name=task.name,
        queue=task.queue,
        status=STATUSES.get(task.status, TaskStatus.QUEUED),
        runs=tuple(sorted(map(_run_state, task.runs), key=lambda run: run.run_number)),
        waiting_for=task.waiting_for,
        cancel_requested=task.cancel_requested,
    )


def _run_state(run: task_pb2.TaskRun) -> RunSnapshot:
    status = RUN_STATUSES.get(run.status, TaskStatus.RUNNING)
    error = run.error if run.HasField("error") else None
    return RunSnapshot(
        run_number=run.run_number,
        attempt_number=run.attempt_number,
        status=status,
        result=run.result if status is TaskStatus.COMPLETED else None,
        error=None if error is None else TaskError(error.type, error.message, error.traceback),
        reason=run.reason,
        started=_time(run.started_at) if run.HasField("started_at") else None,
        finished=_time(run.finished_at) if run.HasField("finished_at") else None,
        worker=run.worker,
    )


def _time(stamp: Timestamp) -> datetime:
    return stamp.ToDatetime(tzinfo=UTC)
