"""Views for people and clients: the present state of tasks, runs, queues, sessions and brokers."""

from dataclasses import dataclass
from datetime import datetime
from enum import IntEnum
from typing import Final

from hyrex_broker.domain.model import BrokerId, CancelCause, CarriedOptions, SessionId, TaskId
from hyrex_broker.domain.progress import ProgressView
from hyrex_broker.domain.rates import Rate
from hyrex_broker.domain.states import TaskState

_OVERHEAD_BYTES: Final = 200


class RunStatusView(IntEnum):
    """The status of a run. Numbers equal those of hyrex.v1.RunStatus."""

    RUNNING = 1
    COMPLETED = 2
    FAILED = 3
    TIMED_OUT = 4
    CANCELLED = 5
    LOST = 6
    RELEASED = 7


@dataclass(frozen=True, slots=True)
class RunView:
    """One run. `result` is None where it was left out for its size or for a list."""

    run_number: int
    attempt_number: int
    state: RunStatusView
    started_at: datetime | None
    finished_at: datetime | None = None
    worker: str = ""
    result: bytes | None = None
    result_size_bytes: int | None = None
    content_type: str | None = None
    error_type: str | None = None
    error_place: str | None = None
    error_message: str | None = None
    traceback: str | None = None
    text_left_out_bytes: int = 0
    """Of a traceback or message that was left out, or cut."""
    reason: str | None = None
    progress: ProgressView | None = None
    """Of a run that says how far it is."""
    cause: CancelCause | None = None
    """Of a cancelled one."""


@dataclass(frozen=True, slots=True)
class TaskView:
    """One task with its state. `payload` and `headers` are None where they were left out."""

    task_id: TaskId
    name: str
    queue: str
    rank: int
    max_retries: int
    timeout_ms: int | None
    state: TaskState
    parent_id: TaskId | None
    root_id: TaskId | None
    submitted_at: datetime
    run_at: datetime | None
    cancel_requested: bool
    carried: CarriedOptions
    idempotency_key: str | None
    labels: dict[str, str]
    payload: bytes | None
    headers: dict[str, str] | None
    runs: tuple[RunView, ...]
    labels_left_out_bytes: int = 0
    dismissed: bool = False
    """A dead letter that somebody has dismissed."""
    in_outbox: str = ""
    """Why it is not stored as a task yet, if it was enqueued in a caller's transaction."""
    is_refused: bool = False
    """It is none because its row in the outbox was refused."""
    trace_context: bytes | None = None
    """The 26 bytes of a traceparent's parts; None without one, and where it was left out."""
    expires_at: datetime | None = None
    """No run of it begins after this."""
    concurrency_key: str | None = None
    max_per_key: int = 0
    fair_key: str | None = None
    is_outside: bool = False
    """No worker runs it: a call from outside ends it."""
    node: str = ""
    """What it is called in its workflow."""
    workflow_nodes: int = 0
    """How many nodes it has, if it is the root of a workflow."""

    @property
    def size_bytes(self) -> int:
        """About how many bytes it takes in a list or a frame, without its payload."""
        size = _OVERHEAD_BYTES + sum(len(key) + len(text) for key, text in self.labels.items())
        for run in self.runs:
            size += _OVERHEAD_BYTES + len(run.result or b"")
            texts = run.error_type, run.error_place, run.error_message, run.traceback, run.reason
            size += sum(len(text or "") for text in texts)
        return size

    @property
    def left_out_bytes(self) -> int:
        """Size of the labels, results, tracebacks and messages that were left out."""
        results = sum(run.result_size_bytes or 0 for run in self.runs if run.result is None)
        return self.labels_left_out_bytes + results + sum(run.text_left_out_bytes for run in self.runs)


@dataclass(frozen=True, slots=True)
class TaskTimes:
    """What else decides when a task runs."""

    debounce_key: str | None
    latest_at: datetime | None
    """Until when sends with that key may move it; None: without end."""
    schedule: str | None
    """The schedule that stored it, if there still is one,"""
    next_at: datetime | None
    """and its next slot; None while it is paused."""


@dataclass(frozen=True, slots=True)
class ReplayedTask:
    """What a task that is to be like another one takes over from it."""

    name: str
    queue: str
    rank: int
    max_retries: int
    timeout_ms: int | None
    retry_delay_ms: int | None
    payload: bytes
    headers: dict[str, str]
    labels: dict[str, str]
    carried: CarriedOptions
    concurrency_key: str | None = None
    max_per_key: int | None = None
    fair_key: str | None = None
    is_outside: bool = False
    of_workflow: bool = False
    """It is a workflow's root, or a node."""


@dataclass(frozen=True, slots=True)
class TaskPage:
    """One page, newest first; `before` is where the next one starts, None on the last."""

    tasks: list[TaskView]
    before: TaskId | None


@dataclass(frozen=True, slots=True)
class ServingSessions:
    """Live sessions with equal patterns: whether they serve a task's queue, and know its name."""

    serves_queue: bool
    knows_task: bool


@dataclass(frozen=True, slots=True)
class RunConditions:
    """The conditions for a queued task to run: its queue, its limits, the live sessions."""

    paused: bool
    queue_limit: int | None
    queue_running: int
    task_limit: int | None
    task_running: int
    services: tuple[ServingSessions, ...]
    queue_token_at: datetime | None = None
    """When the queue's rate allows a run again, if not now"""
    task_token_at: datetime | None = None
    queue_rate: tuple[int, ...] = ()
    """How many in how many milliseconds, if there is a rate."""
    task_rate: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class HolderView:
    """A task that runs under a limit."""

    task_id: TaskId
    name: str
    queue: str
    worker: str
    since: datetime


@dataclass(frozen=True, slots=True)
class QueueView:
    """A queue and what is in it; what waits is counted up to a cap."""

    name: str
    paused: bool
    concurrency_limit: int
    queued: int
    queued_capped: bool
    delayed: int
    running: int
    blocked: int = 0
    workers: int = 0
    max_waiting: int = 0
    retention_days: int = 0
    dead_letter_days: int = 0
    rate: Rate | None = None
    next_token_at: datetime | None = None
    """When its rate allows a run again, if not now."""


@dataclass(frozen=True, slots=True)
class SessionView:
    """A worker session."""

    session_id: SessionId
    worker_name: str
    host: str
    pid: int
    sdk: str
    queue_patterns: tuple[str, ...]
    task_names: tuple[str, ...]
    capacity: int
    slots: int
    leases: int
    broker: str
    started_at: datetime
    expires_at: datetime
    draining: bool
    ended_at: datetime | None
    end_reason: str | None

    @property
    def running(self) -> int:
        """How many of its leases it executes: what is beyond its slots (0: unknown) is fetched."""
        return min(self.leases, self.slots) if self.slots else self.leases


@dataclass(frozen=True, slots=True)
class BrokerView:
    """A broker."""

    broker_id: BrokerId
    name: str
    address: str
    version: str
    started_at: datetime
    seen_at: datetime
    workers: int
