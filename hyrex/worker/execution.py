"""One run in a child, as a pipeline over one struct: look up, decode, run, encode, outcome.

The runners do the middle step, each in its own way; the others are here, and nothing in this
module raises what user code raised.
"""

from __future__ import annotations

import inspect
import logging
import os
import threading
import time
import traceback
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from types import MappingProxyType
from typing import Any
from uuid import UUID

from hyrex.context import HyrexContext
from hyrex.errors import NonRetryable, PayloadTooLarge, RetryAfter
from hyrex.limits import checked_payload
from hyrex.task import HyrexTask
from hyrex.worker.frames import Run
from hyrex.worker.outcome import (
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

log = logging.getLogger("hyrex.worker")

_HERE = str(Path(__file__).parent.parent) + os.sep
_MESSAGE_CHARACTERS = 10_000
_TRACEBACK_CHARACTERS = 50_000


class Execution:
    """A run on its way through a child. What most runs never change is kept by the class: a run in
    thousands is stopped, and each attribute set costs."""

    task: HyrexTask[..., Any] | None = None
    thread_id = 0
    started_ns = 0  # when user code began; 0 before
    interruptible = False  # user code is on the stack
    interrupted = False  # its thread was made to raise
    stop: StopCause | None = None
    stop_reason = ""
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

    def overdue(self, now_ns: int) -> bool:
        """Whether user code has had all its time."""
        timeout_ns = self.run.timeout_ns
        return bool(timeout_ns and self.started_ns and now_ns - self.started_ns >= timeout_ns)

    def ending(self, outcome: Outcome) -> Ending:
        """This run's end, now."""
        elapsed = time.monotonic_ns() - self.started_ns if self.started_ns else None
        return Ending(self.run.token, outcome, elapsed)


def prepare(execution: Execution, tasks: Mapping[str, HyrexTask[..., Any]]) -> Outcome | None:
    """Find the function and decode its arguments; an outcome if that is impossible."""
    run = execution.run
    task = execution.task = tasks.get(run.name)
    if task is None:
        return _refused("UnknownTask", f"this worker has no task {run.name!r}")
    if run.codec or run.content_type not in ("", "application/json"):
        return _refused("UnknownEncoding", f"payload is {run.content_type!r} with codec {run.codec!r}")
    try:
        execution.arguments = task.decode_arguments(run.payload)
    except Exception as error:
        return Failed(describe(error), retryable=False)
    return None


def conclude(execution: Execution, value: object) -> Outcome:
    """The outcome of a function that returned, whatever it was asked before."""
    assert execution.task is not None
    try:
        return Completed(checked_payload(execution.run.name, execution.task.encode_result(value)))
    except PayloadTooLarge as error:
        text = f"the result takes {error.size_bytes:,} bytes, the limit is {error.limit_bytes:,}"
        return Failed(ErrorInfo("ResultNotSerializable", text), retryable=False)
    except Exception as error:
        return Failed(describe(error), retryable=False)


def explain(execution: Execution, error: BaseException) -> Outcome:
    """The outcome of a function that raised: what it was asked to do, else what it did."""
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
    handled = isinstance(outcome, Failed | TimedOut)
    return handled and execution.task is not None and execution.task.config.on_error is not None


def call_on_error(execution: Execution, error: BaseException) -> Any:
    """Call the task's error handler; return what it returns (a coroutine if it is async)."""
    assert execution.task is not None
    handler = execution.task.config.on_error
    assert handler is not None
    return handler(error) if _takes_argument(handler) else handler()  # type: ignore[call-arg]


def describe(error: BaseException) -> ErrorInfo:
    """What a run raised, without this package's own frames, in text that can be stored."""
    trace = error.__traceback__
    while trace is not None and trace.tb_frame.f_code.co_filename.startswith(_HERE):
        trace = trace.tb_next
    lines = traceback.format_exception(type(error), error, trace)
    try:
        message = str(error)
    except Exception:
        message = "<its __str__ raised>"
    return ErrorInfo(
        type(error).__name__,
        _storable(message)[:_MESSAGE_CHARACTERS],
        _storable("".join(lines))[-_TRACEBACK_CHARACTERS:],
    )


def _failed(execution: Execution, error: BaseException) -> Failed:
    assert execution.task is not None
    if isinstance(error, (NonRetryable, *execution.task.config.no_retry_on)):
        return Failed(describe(error), retryable=False)
    if isinstance(error, RetryAfter):
        return Failed(describe(error), retryable=True, retry_delay_s=float(error.seconds))
    return Failed(describe(error), retryable=True, retry_delay_s=_retry_delay_s(execution))


def _retry_delay_s(execution: Execution) -> float:
    assert execution.task is not None
    return float(execution.task.retry_delay_s(execution.run.attempt_number + 1))


def _timeout_info(execution: Execution, error: BaseException) -> ErrorInfo:
    told = describe(error)
    text = f"exceeded its timeout of {execution.run.timeout_ns / 1e9:g} s"
    return ErrorInfo("TaskTimeout", text, told.traceback)


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


def _storable(text: str) -> str:
    """Without what UTF-8 or Postgres cannot hold."""
    return text.encode("utf-8", "backslashreplace").decode().replace("\0", "\\x00")
