"""Converts wire messages to plain values and back."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from types import MappingProxyType
from typing import Final

from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from hyrex.backend.encoding import codec_name
from hyrex.backend.origin import TRACE_BYTES
from hyrex.backend.outgoing import Deduplicated, Outgoing, OutgoingBatch, Postponed, Progress, SendResult
from hyrex.backend.send_spec import SendSpec
from hyrex.codec import CODECS
from hyrex.errors import SendRejected
from hyrex.progress import RunProgress
from hyrex.runs import RunSnapshot, TaskError, TaskSnapshot
from hyrex.status import TaskStatus
from hyrex.transport.errors import item_error
from hyrex.v1 import task_pb2, task_service_pb2

__all__ = [
    "new_task",
    "placed_outcomes",
    "schedule_task",
    "sizes_in_frame",
    "submit_groups",
    "submit_outcome",
    "submit_request",
    "task_state",
]

UNAVAILABLE: Final = 14
"""The google.rpc.Code of a task whose cell did not answer a gateway: the task may be stored."""
NO_TRACE: Final = bytes(TRACE_BYTES)
ITEM_BYTES: Final = 24  # what a task takes in a frame beside its payload and headers, at most

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


def submit_groups(tasks: Sequence[Outgoing]) -> tuple[bytes, Sequence[int]]:
    """A StreamSubmitRequest of tasks, put together to groups of equal terms and parents, without its
    sequence; and where each place of the frame stands in `tasks`."""
    if isinstance(tasks, OutgoingBatch) and len(tasks.specs) == 1:
        return _one_group(tasks).SerializeToString(), range(len(tasks))
    gathered: dict[tuple[bytes, str, str], list[int]] = {}
    for at, task in enumerate(tasks):
        gathered.setdefault((_terms(task.spec), *task.origin[:2]), []).append(at)
    request = task_service_pb2.StreamSubmitRequest()
    for (terms, parent_id, root_id), places in gathered.items():
        group = request.groups.add()
        group.terms.MergeFromString(terms)
        group.terms.parent_id, group.terms.root_id = parent_id, root_id
        _fill_columns(group, [tasks[at] for at in places])
    return request.SerializeToString(), [at for places in gathered.values() for at in places]


def _one_group(tasks: OutgoingBatch) -> task_service_pb2.StreamSubmitRequest:
    """Tasks with one spec are a group as they are; what only some may have, all of them have here."""
    options = tasks.specs[0].options
    request = task_service_pb2.StreamSubmitRequest()
    group = request.groups.add(task_ids=tasks.ids, payloads=tasks.payloads)
    group.terms.MergeFromString(_terms(tasks.specs[0]))
    group.terms.parent_id, group.terms.root_id, group.trace_contexts = tasks.origin
    if options.headers:
        group.headers.add(headers=options.headers)
    if options.idempotency_key:
        group.idempotency_keys.append(options.idempotency_key)
    if options.concurrency_key:
        group.concurrency_keys.append(options.concurrency_key)
    if options.fair_key:
        group.fair_keys.append(options.fair_key)
    return request


def _fill_columns(group: task_service_pb2.TaskGroup, tasks: Sequence[Outgoing]) -> None:
    group.task_ids = bytes.fromhex("".join([task.task_id for task in tasks]).replace("-", ""))
    group.payloads.extend([task.payload for task in tasks])
    options = [task.spec.options for task in tasks]
    if any(each.headers for each in options):
        group.headers.extend(task_pb2.Headers(headers=each.headers) for each in options)
    if any(each.idempotency_key for each in options):
        group.idempotency_keys.extend(each.idempotency_key or "" for each in options)
    if any(each.concurrency_key for each in options):
        group.concurrency_keys.extend(each.concurrency_key or "" for each in options)
    if any(each.fair_key for each in options):
        group.fair_keys.extend(each.fair_key or "" for each in options)
    if any(task.origin.trace_context for task in tasks):
        group.trace_contexts = b"".join([task.origin.trace_context or NO_TRACE for task in tasks])


def sizes_in_frame(tasks: Sequence[Outgoing]) -> list[int]:
    """What each task takes in a frame, about."""
    if isinstance(tasks, OutgoingBatch) and len(tasks.specs) == 1:
        own = _own_bytes(tasks.specs[0])
        return [len(payload) + own for payload in tasks.payloads]
    return [len(task.payload) + _own_bytes(task.spec) + len(task.origin.trace_context) for task in tasks]


def _own_bytes(spec: SendSpec) -> int:
    headers = spec.options.headers
    return ITEM_BYTES + (sum(len(name) + len(value) for name, value in headers.items()) if headers else 0)


def submit_request(tasks: Sequence[Outgoing]) -> bytes:
    """A SubmitTasksRequest of tasks."""
    return task_service_pb2.SubmitTasksRequest(tasks=map(new_task, tasks)).SerializeToString()


def new_task(outgoing: Outgoing) -> task_pb2.NewTask:
    """One task in its wire form."""
    options = outgoing.spec.options
    task = task_pb2.NewTask.FromString(_terms(outgoing.spec))
    task.task_id, task.payload = outgoing.task_id, outgoing.payload
    task.parent_id, task.root_id, _ = outgoing.origin
    task.idempotency_key = options.idempotency_key or ""
    task.concurrency_key = options.concurrency_key or ""
    task.fair_key = options.fair_key or ""
    task.headers.update(options.headers)
    return task


def schedule_task(outgoing: Outgoing) -> task_pb2.NewTask:
    """What a schedule stores at each slot: the task without what is its own each time. Raises ValueError for
    options of a single send."""
    options = outgoing.spec.options
    if options.idempotency_key or options.delay is not None or options.run_at is not None:
        raise ValueError("a schedule's call has no idempotency_key, delay or run_at: its slots say when")
    task = new_task(outgoing)
    for name in ("task_id", "parent_id", "root_id"):
        task.ClearField(name)
    return task


def _terms(spec: SendSpec) -> bytes:
    """What all sends of one task share, encoded once: a backoff made by chance must not differ when a send is
    repeated."""
    base, options = spec.base or spec, spec.options
    if base.encoded is None:
        base.encoded = _options(base)
    if (options.max_per_key != 1 or options.on_full != "wait") and not options.concurrency_key:
        return _without_key(base.encoded)
    return base.encoded


@lru_cache(maxsize=1024)
def _without_key(terms: bytes) -> bytes:
    """The terms of a task whose arguments gave it no key: brokers refuse a maximum without one."""
    shared = task_pb2.NewTask.FromString(terms)
    shared.ClearField("max_per_key")
    shared.ClearField("on_full")
    return shared.SerializeToString()


def _options(spec: SendSpec) -> bytes:
    config, options = spec.config, spec.options
    shared = task_pb2.NewTask(
        name=config.name, queue=config.queue, priority=config.priority, max_retries=config.max_retries
    )
    if config.timeout_seconds is not None:
        shared.timeout.CopyFrom(_duration(config.timeout_seconds))
    if config.expires_in is not None:
        shared.expires_in.CopyFrom(_duration(config.expires_in))
    if options.debounce_key is not None:
        shared.debounce_key = options.debounce_key
    if options.debounce_max_wait is not None:
        shared.debounce_max_wait.CopyFrom(_duration(options.debounce_max_wait.total_seconds()))
    if options.delay is not None:
        shared.delay.CopyFrom(_duration(options.delay.total_seconds()))
    if options.run_at is not None:
        shared.run_at.FromDatetime(options.run_at)
    shared.labels.update(options.labels)
    shared.outside = spec.task.is_outside
    if options.max_per_key != 1:
        shared.max_per_key = options.max_per_key
    if options.on_full != "wait":
        shared.on_full = task_pb2.ON_FULL_REFUSE
    if CODECS:
        shared.codec = codec_name(spec)
    if config.retry_backoff is not None:
        shared.retry_delay.CopyFrom(_duration(spec.task.retry_delay_s(1)))
    return shared.SerializeToString()


def _duration(seconds: float) -> Duration:
    found = Duration()
    found.FromTimedelta(timedelta(seconds=seconds))
    return found


def placed_outcomes(
    tasks: Sequence[Outgoing], order: Sequence[int], results: Sequence[task_service_pb2.PlacedResult]
) -> dict[int, SendResult]:
    """What became of those tasks that a frame's answer names, by where they stand in `tasks`.

    Raises SendRejected for an answer that cannot be to this frame.
    """
    found: dict[int, SendResult] = {}
    for each in results:
        if not 0 <= each.place < len(order):
            raise SendRejected(f"the broker answered for task {each.place} of a frame of {len(order)}")
        at = order[each.place]
        found[at] = submit_outcome(tasks[at], each.result)
    return found


def submit_outcome(outgoing: Outgoing, result: task_service_pb2.SubmitResult) -> SendResult:
    """What became of one submitted task."""
    if result.outcome in ACCEPTED:
        return Progress.STORED
    if result.outcome == task_service_pb2.SUBMIT_OUTCOME_DEDUPLICATED:
        differs = result.payload_differs and not _never_repeats(outgoing.spec)
        return Deduplicated(result.task_id, STATUSES.get(result.status), differs)
    if result.HasField("error") or result.outcome == task_service_pb2.SUBMIT_OUTCOME_REJECTED:
        told = result.error
        error = item_error(outgoing.spec.config.name, told.message, told.reason, dict(told.metadata))
        if told.HasField("retry_delay"):
            delay_s = max(0.0, told.retry_delay.ToTimedelta().total_seconds())
            return Postponed(error, delay_s, may_be_stored=told.code == UNAVAILABLE)
        return error
    return Progress.STORED


def _never_repeats(spec: SendSpec) -> bool:
    """Return True if the same arguments are other bytes each time, so that a difference tells nothing."""
    codecs = spec.task._stack.codecs if CODECS else None
    return codecs is not None and not codecs.repeatable


def task_state(task: task_pb2.Task) -> TaskSnapshot:
    """A task from its wire form."""
    return TaskSnapshot(
        task_id=task.task_id,
        name=task.name,
        queue=task.queue,
        status=STATUSES.get(task.status, TaskStatus.QUEUED),
        runs=tuple(
            sorted((_run_state(run, task.hidden) for run in task.runs), key=lambda run: run.run_number)
        ),
        waiting_for=task.waiting_for,
        cancel_requested=task.cancel_requested,
        hidden=task.hidden,
        node=task.node,
    )


def _run_state(run: task_pb2.TaskRun, hidden: bool) -> RunSnapshot:
    status = RUN_STATUSES.get(run.status, TaskStatus.RUNNING)
    error = run.error if run.HasField("error") else None
    return RunSnapshot(
        run_number=run.run_number,
        attempt_number=run.attempt_number,
        status=status,
        result=run.result if status is TaskStatus.COMPLETED and not hidden else None,
        error=None if error is None else TaskError(error.type, error.message, error.traceback),
        reason=run.reason,
        started=_time(run.started_at) if run.HasField("started_at") else None,
        finished=_time(run.finished_at) if run.HasField("finished_at") else None,
        worker=run.worker,
        progress=_progress(run.progress) if run.HasField("progress") else None,
        cause=_cause(run.cause),
    )


def _cause(told: int) -> str | None:
    """The cause's name in lower case; of one that this version does not know, its number."""
    if not told:
        return None
    known = told in task_pb2.CancelCause.values()
    value = task_pb2.CancelCause.ValueType(told)
    return task_pb2.CancelCause.Name(value).removeprefix("CANCEL_CAUSE_").lower() if known else str(told)


def _progress(told: task_pb2.RunProgress) -> RunProgress:
    total = told.total if told.HasField("total") else None
    return RunProgress(told.done, total, told.text, _time(told.updated_at))


def _time(stamp: Timestamp) -> datetime:
    return stamp.ToDatetime(tzinfo=UTC)
