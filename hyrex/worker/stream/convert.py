"""Converts between wire types (hyrex.v1) and the values that the rest of the worker uses."""

import os
import platform
import socket
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import Final, assert_never
from uuid import UUID

from google.protobuf.duration_pb2 import Duration

from hyrex.options import DURATION_LIMIT_S
from hyrex.v1 import task_pb2 as task_wire
from hyrex.v1 import worker_service_pb2 as wire
from hyrex.v1.schedule_pb2 import ScheduleDefinition
from hyrex.worker.shared.child_messages import (
    Imported,
    Progressed,
    QueueInfo,
    RateInfo,
    ScheduleInfo,
    TaskInfo,
)
from hyrex.worker.shared.description import storable
from hyrex.worker.shared.outcome import (
    Cancelled,
    Completed,
    Ending,
    ErrorInfo,
    Expired,
    Failed,
    Lost,
    Released,
    TimedOut,
)
from hyrex.worker.stream.capacity import Places
from hyrex.worker.stream.columns import LONGEST_NS, fill_finished
from hyrex.worker.stream.reports import FinishedRuns, Unreported, UnreportedRun
from hyrex.worker.stream.session import DEFAULT_TERMS, SessionTerms, WorkerSession

PROTOCOL_VERSION: Final = 1
_SHOWN_CHARACTERS: Final = 500


@dataclass(frozen=True, slots=True)
class Registration:
    """The part of a Hello that is the same for every session of this worker."""

    worker_name: str
    queue_patterns: tuple[str, ...]
    app: Imported


def sdk_name() -> str:
    """The name and version of this SDK, as it introduces itself to a broker."""
    try:
        return f"hyrex-python/{version('hyrex')} (Python {platform.python_version()})"
    except PackageNotFoundError:
        return "hyrex-python"


def hello(
    registration: Registration, session: WorkerSession, capacity: Mapping[str, Places]
) -> wire.WorkRequest:
    """The first frame of a stream; names the held leases if there is a session to resume."""
    held = session.held.items() if session.id else ()
    return wire.WorkRequest(
        hello=wire.Hello(
            worker_name=registration.worker_name,
            host=socket.gethostname(),
            pid=os.getpid(),
            session_id=session.id,
            session_secret=session.secret,
            sdk=sdk_name(),
            protocol_version=PROTOCOL_VERSION,
            queue_patterns=registration.queue_patterns,
            tasks=[_definition(task) for task in registration.app.tasks],
            queues=[_queue(queue) for queue in registration.app.queues],
            held=[wire.LeaseRef(task_id=str(UUID(bytes=packed)), token=token) for token, packed in held],
            received_through=session.received_through,
            capacity=_pools(capacity),
            schedules=map(_schedule, registration.app.schedules),
        )
    )


def capacity_update(capacity: Mapping[str, Places]) -> wire.WorkRequest:
    """A frame that announces the capacity of each pool, in absolute numbers."""
    return wire.WorkRequest(capacity=wire.CapacityUpdate(pools=_pools(capacity)))


def heartbeat(
    sequence: int, held: Iterable[int], received_through: int, told: Iterable[Progressed] = ()
) -> wire.WorkRequest:
    """A heartbeat, with the leases held, the last assignment received, and how far runs are."""
    return wire.WorkRequest(
        heartbeat=wire.Heartbeat(
            sequence=sequence,
            held_tokens=held,
            received_through=received_through,
            progress=[
                wire.LeaseProgress(
                    token=word.token,
                    progress=task_wire.RunProgress(done=word.done, total=word.total, text=word.text),
                )
                for word in told
            ],
        )
    )


def report(report_id: int, parts: Iterable[Unreported]) -> wire.WorkRequest:
    """A report of runs that ended.

    A run whose outcome cannot be put into a frame is reported as failed, with the reason; the others of the
    report are not affected.
    """
    frame = wire.WorkRequest()
    frame.report.report_id = report_id
    finished: list[FinishedRuns] = []
    for part in parts:
        if isinstance(part, FinishedRuns):
            finished.append(part)
        else:
            _add(frame.report.runs.add(), part)
    if finished:
        fill_finished(frame.report.completed.add(), finished)
    return frame


def _add(told: wire.RunReport, run: UnreportedRun) -> None:
    try:
        _tell(told, run)
    except Exception as error:
        told.Clear()
        _tell(told, _unreportable(run, error))


def worker_drain(reason: str) -> wire.WorkRequest:
    """A frame that asks the broker for no more assignments."""
    return wire.WorkRequest(drain=wire.WorkerDrain(reason=reason))


def goodbye() -> wire.WorkRequest:
    """The last frame of a session: the worker holds no lease any more."""
    return wire.WorkRequest(goodbye=wire.Goodbye())


def terms(welcome: wire.Welcome) -> SessionTerms:
    """The terms that a Welcome grants; defaults for what an older broker leaves out."""
    lease_s = welcome.lease_duration.ToTimedelta().total_seconds() or DEFAULT_TERMS.lease_duration_s
    return SessionTerms(
        lease_duration_s=lease_s,
        heartbeat_interval_s=welcome.heartbeat_interval.ToTimedelta().total_seconds() or lease_s / 3,
        max_frame_bytes=welcome.max_frame_bytes or DEFAULT_TERMS.max_frame_bytes,
        max_unacknowledged_reports=welcome.max_unacknowledged_reports
        or DEFAULT_TERMS.max_unacknowledged_reports,
    )


def seconds(duration: Duration) -> float:
    """A duration as seconds."""
    return duration.seconds + duration.nanos / 1e9


def _duration(nanoseconds: int) -> Duration:
    return Duration(seconds=nanoseconds // 1_000_000_000, nanos=nanoseconds % 1_000_000_000)


def _delay(delay_s: float | None) -> Duration | None:
    """The delay on the wire; None if it is not a valid one (NaN fails both comparisons).

    The broker then uses the task's own.
    """
    if delay_s is None or not 0 <= delay_s <= DURATION_LIMIT_S:
        return None
    return _duration(int(delay_s * 1e9))


def _error(error: ErrorInfo) -> task_wire.RunError:
    return task_wire.RunError(
        type=error.type, message=error.message, traceback=error.traceback, place=error.place
    )


def _unreportable(run: UnreportedRun, error: Exception) -> UnreportedRun:
    kind = type(run.ending.outcome).__name__
    shown = storable(repr(error), _SHOWN_CHARACTERS)
    text = f"the run ended as {kind}, but its outcome cannot be put into a frame: {shown}"
    return UnreportedRun(run.task_id, Ending(run.ending.token, Failed(ErrorInfo("Unreportable", text), True)))


def _tell(told: wire.RunReport, run: UnreportedRun) -> None:
    """Fill in how a run ended. In place, since making a message and copying it would cost twice as much."""
    ending, outcome = run.ending, run.ending.outcome
    told.task_id = run.task_id
    told.token = ending.token
    elapsed_ns = ending.elapsed_ns
    if elapsed_ns is not None and 0 <= elapsed_ns <= LONGEST_NS:  # user code may have set its clock
        elapsed = told.elapsed
        if elapsed_ns < 1_000_000_000:
            elapsed.nanos = elapsed_ns
        else:
            elapsed.seconds, elapsed.nanos = divmod(elapsed_ns, 1_000_000_000)
    match outcome:
        case Completed(result):  # those that returned bytes are in a column
            raise TypeError(f"its result is of type {type(result).__name__}, and no bytes")
        case Failed(error, retryable, delay_s):
            told.failed.CopyFrom(
                wire.Failed(error=_error(error), retryable=retryable, retry_delay=_delay(delay_s))
            )
        case TimedOut(error, delay_s):
            told.timed_out.CopyFrom(wire.TimedOut(error=_error(error), retry_delay=_delay(delay_s)))
        case Cancelled(reason):
            told.cancelled.CopyFrom(wire.Cancelled(reason=reason))
        case Expired():
            told.expired.SetInParent()
        case Released(started, reason, delay_s):
            told.released.CopyFrom(wire.Released(started=started, reason=reason, retry_delay=_delay(delay_s)))
        case Lost(reason, alone):
            told.lost.CopyFrom(wire.Lost(reason=reason, alone=alone))
        case _:
            assert_never(outcome)


def _definition(task: TaskInfo) -> wire.TaskDefinition:
    return wire.TaskDefinition(
        name=task.name,
        queue=task.queue,
        max_concurrency=task.max_concurrency,
        pool="async" if task.is_async else "sync",
        max_retries=task.max_retries,
        timeout=_duration(int(task.timeout_s * 1e9)) if task.timeout_s else None,
        priority=task.priority,
        rate=_rate(task.rate),
    )


def _rate(rate: RateInfo | None) -> task_wire.Rate | None:
    if rate is None:
        return None
    return task_wire.Rate(count=rate.count, period=_duration(rate.period_s * 1_000_000_000), burst=rate.burst)


def _schedule(schedule: ScheduleInfo) -> ScheduleDefinition:
    task, delay_s = schedule.task, schedule.retry_delay_s
    return ScheduleDefinition(
        name=task.name,
        cron=schedule.cron,
        timezone=schedule.tz,
        task=task_wire.NewTask(
            name=task.name,
            queue=task.queue,
            payload=schedule.payload,
            priority=task.priority,
            max_retries=task.max_retries,
            timeout=_duration(int(task.timeout_s * 1e9)) if task.timeout_s else None,
            retry_delay=_duration(int(delay_s * 1e9)) if delay_s >= 0 else None,
            expires_in=_duration(int(schedule.expires_in_s * 1e9)) if schedule.expires_in_s else None,
            headers=schedule.headers,
            labels=schedule.labels,
            concurrency_key=schedule.concurrency_key,
            max_per_key=schedule.max_per_key,
            on_full=task_wire.ON_FULL_REFUSE if schedule.refuses else task_wire.ON_FULL_UNSPECIFIED,
            fair_key=schedule.fair_key,
        ),
    )


def _queue(queue: QueueInfo) -> wire.QueueDefinition:
    return wire.QueueDefinition(
        name=queue.name, concurrency_limit=queue.concurrency_limit, rate=_rate(queue.rate)
    )


def _pools(capacity: Mapping[str, Places]) -> list[wire.PoolCapacity]:
    return [
        wire.PoolCapacity(pool=pool, maximum=places.maximum, slots=places.slots)
        for pool, places in capacity.items()
    ]
