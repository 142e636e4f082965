"""One run in a child, as a pipeline over one struct: look up, decode, run, encode, outcome.

The runners do the middle step, each in its own way; the others are here, and nothing in this
module raises what user code raised.
"""

from __future__ import annotations

import inspect
import threading
import time
from collections.abc import Mapping
from contextvars import Context
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Any
from uuid import UUID

from msgspec.structs import replace

from hyrex.arguments.limits import checked_payload
from hyrex.context import HyrexContext, bound_in
from hyrex.errors import NonRetryable, PayloadTooLarge, ResultNotSerializable, RetryAfter, TaskTimeout
from hyrex.options import checked_seconds
from hyrex.task import HyrexTask, coder_of
from hyrex.worker.child.unknown_signature import given_back
from hyrex.worker.shared.child_messages import Run
from hyrex.worker.shared.child_options import ON_ERROR_NS
from hyrex.worker.shared.description import attempt, describe
from hyrex.worker.shared.logs import complain
from hyrex.worker.shared.outcome import (
    Cancelled,
    Completed,
    Ending,
    ErrorInfo,
    Failed,
    Outcome,
    Released,
    StopCause,
    TimedOut,
)


class Execution:
    """A run on its way through a child. What most runs never change is kept by the class: a run in
    thousands is stopped, and each attribute set costs."""

    task: HyrexTask[..., Any] | None = None
    thread_id = 0
    started_ns = 0  # when user code began; 0 before
    interruptible = False  # user code is on the stack
    interrupted = False  # its thread was made to raise
    handling = False  # the run is over, its error handler runs: nothing but its own time stops that
    stop: StopCause | None = None
    stop_reason = ""
    fault: BaseException | None = None  # what a part of it did to the event loop
    error: BaseException | None = None  # what its arguments, its function or its result raised
    arguments: Mapping[str, Any] = MappingProxyType({})
    _context: HyrexContext | None = None

    def __init__(self, run: Run, ordinal: int, slot: int, worker: str) -> None:
        """About to begin."""
        self.run = run
        self.ordinal = ordinal
        self.slot = slot
        self.gate = threading.Lock()  # held by who may change `interruptible`
        self._worker = worker
        self._began = time.time()

    def context(self) -> HyrexContext:
        """What user code may ask for; made when it does."""
        if self._context is None:
            self._context = _context(self.run, self._worker, self._began)
        return self._context

    def for_handler(self) -> Execution:
        """The execution of this run's error handler: its own time and interrupts, the context as it was."""
        made = Execution(replace(self.run, timeout_ns=ON_ERROR_NS), self.ordinal, self.slot, self._worker)
        made.handling, made.task, made.error = True, self.task, self.error
        made._context = attempt(self.context, lambda _: None)
        return made

    def overdue(self, now_ns: int) -> bool:
        """Whether user code has had all its time."""
        timeout_ns = self.run.timeout_ns
        return bool(timeout_ns and self.started_ns and now_ns - self.started_ns >= timeout_ns)

    def ending(self, outcome: Outcome) -> Ending:
        """This run's end, now."""
        # User code may have set the clock back (freezegun does).
        elapsed = max(0, time.monotonic_ns() - self.started_ns) if self.started_ns else None
        return Ending(self.run.token, outcome, elapsed)


def prepare(execution: Execution, tasks: Mapping[str, HyrexTask[..., Any]]) -> Outcome | None:
    """Find the function and decode its arguments; an outcome if that is impossible."""
    run = execution.run
    task = execution.task = tasks.get(run.name)
    if run.told is not None:  # it was killed, and its child could not call the handler
        execution.error = TaskTimeout(run.told.message)
        return TimedOut(run.told)
    if task is None:
        return _refused("UnknownTask", f"this worker has no task {run.name!r}")
    if run.codec or run.content_type not in ("", "application/json"):
        return _refused("UnknownEncoding", f"payload is {run.content_type!r} with codec {run.codec!r}")
    try:
        execution.arguments = coder_of(task).decode_arguments(run.payload)
    except BaseException as error:  # a validator is user code: it may call sys.exit()
        execution.error = error
        return given_back(run, error) or Failed(describe(error), retryable=False)
    return None


def conclude(execution: Execution, value: object) -> Outcome:
    """The outcome of a function that returned, whatever it was asked before."""
    assert execution.task is not None
    try:
        return Completed(checked_payload(execution.run.name, coder_of(execution.task).encode_result(value)))
    except BaseException as error:  # a serialiser is user code
        execution.error = _unstorable(execution, value, error)
        return Failed(describe(execution.error), retryable=False)


def explain(execution: Execution, error: BaseException) -> Outcome:
    """The outcome of a function that raised: what it was asked to do, else what it did."""
    execution.error = error
    match execution.stop:
        case StopCause.TIMEOUT:
            return TimedOut(_timeout_info(execution, error), _retry_delay_s(execution))
        case StopCause.CANCEL:
            return Cancelled(execution.stop_reason)
        case StopCause.DRAIN | StopCause.TRUST | StopCause.REVOKED:
            return Released(started=True, reason=execution.stop_reason)
        case None:
            return _failed(execution, error)


def dropped(cause: StopCause, reason: str) -> Outcome:
    """The outcome of a run that was stopped before it began."""
    return Cancelled(reason) if cause is StopCause.CANCEL else Released(started=False, reason=reason)


def calls_on_error(execution: Execution, outcome: Outcome) -> bool:
    """Whether the task's error handler wants to hear of this outcome."""
    task = execution.task
    return task is not None and task.config.on_error is not None and isinstance(outcome, Failed | TimedOut)


def call_on_error(execution: Execution) -> Any:
    """Call the task's error handler; return what it returns (a coroutine if it is async)."""
    assert execution.task is not None
    handler = execution.task.config.on_error
    assert handler is not None
    return handler(execution.error) if _takes_argument(handler) else handler()  # type: ignore[call-arg]


def execution_here(context: Context | None = None) -> Execution | None:
    """The execution whose code runs here, or in that context, by its ContextVar; None elsewhere."""
    owner = getattr(bound_in(context), "__self__", None)
    return owner if isinstance(owner, Execution) else None


def _unstorable(execution: Execution, value: object, error: BaseException) -> BaseException:
    """What is wrong with a result, as the error that its run fails with."""
    if inspect.iscoroutine(value):
        attempt(value.close, lambda _: None)  # or Python complains later, elsewhere, that nobody awaited it
        text = f"{execution.run.name} returned a coroutine: await it, or make the task `async def`"
        return ResultNotSerializable(text)
    if isinstance(error, PayloadTooLarge):
        text = f"the result takes {error.size_bytes:,} bytes, the limit is {error.limit_bytes:,}"
        return ResultNotSerializable(text)
    return error


def _failed(execution: Execution, error: BaseException) -> Failed:
    if _is_final(execution, type(error)):
        return Failed(describe(error), retryable=False)
    delay_s = _asked_delay_s(execution, error) if issubclass(type(error), RetryAfter) else None
    return Failed(describe(error), True, _retry_delay_s(execution) if delay_s is None else delay_s)


def _is_final(execution: Execution, kind: type[BaseException]) -> bool:
    """Whether no retry may follow. By the error's type: its `__class__` may be a property that raises."""
    assert execution.task is not None
    unwanted = execution.task.config.no_retry_on
    return issubclass(kind, NonRetryable) or attempt(lambda: issubclass(kind, unwanted), lambda _: False)


def _asked_delay_s(execution: Execution, error: BaseException) -> float | None:
    """What a RetryAfter asks for; None, with a complaint, if that is no delay."""
    try:
        return checked_seconds("RetryAfter.seconds", error.seconds)  # type: ignore[attr-defined]
    except BaseException as odd:
        complain(f"task {execution.run.name}: its own backoff is used, for its delay is none", odd)
        return None


def _retry_delay_s(execution: Execution) -> float | None:
    """The task's backoff; None, which leaves it to the broker, if even that cannot be told."""
    task = execution.task
    assert task is not None
    number = execution.run.attempt_number + 1
    return attempt(lambda: checked_seconds("retry_backoff", task.retry_delay_s(number)), lambda _: None)


def _timeout_info(execution: Execution, error: BaseException) -> ErrorInfo:
    told = describe(error)
    text = f"exceeded its timeout of {execution.run.timeout_ns / 1e9:g} s"
    return ErrorInfo("TaskTimeout", text, told.traceback, told.where)


def _refused(kind: str, message: str) -> Failed:
    return Failed(ErrorInfo(kind, message), retryable=False)


def _context(run: Run, worker: str, began: float) -> HyrexContext:
    task_id = UUID(run.task_id)
    return HyrexContext(
        task_id=task_id,
        task_name=run.name,
        queue=run.queue,
        priority=run.priority,
        run_number=run.run_number,
        attempt_number=run.attempt_number,
        max_retries=run.max_retries,
        parent_id=UUID(run.parent_id) if run.parent_id else None,
        root_id=task_id if run.root_id in ("", run.task_id) else UUID(run.root_id),
        timeout_seconds=run.timeout_ns / 1e9 if run.timeout_ns else None,
        queued=datetime.fromtimestamp(run.submitted_ns / 1e9, UTC),
        started=datetime.fromtimestamp(began, UTC),
        worker=worker,
        headers=run.headers or {},
    )


def _takes_argument(handler: Any) -> bool:
    try:
        parameters = inspect.signature(handler).parameters.values()
    except (TypeError, ValueError):
        return True
    return any(p.kind is not p.KEYWORD_ONLY and p.kind is not p.VAR_KEYWORD for p in parameters)
