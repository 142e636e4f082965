"""One run in a child, in steps over one object: find the function, decode, run, encode, make the outcome.

Each runner runs the function in its own way; the other steps are here. They return what user code raises as
outcomes and do not raise it.
"""

import asyncio
import inspect
import threading
import time
from collections.abc import Iterator, Mapping
from contextvars import Context
from types import MappingProxyType
from typing import Any

from msgspec.structs import replace

from hyrex.arguments.limits import PAYLOAD_LIMIT_BYTES
from hyrex.backend.bound import with_results
from hyrex.codec import CODECS, PayloadInfo
from hyrex.context import HyrexContext, bound_in
from hyrex.errors import (
    NonRetryable,
    PayloadTooLarge,
    PayloadUnavailable,
    ResultNotSerializable,
    RetryAfter,
    TaskTimeout,
)
from hyrex.middleware import RunInfo
from hyrex.options import checked_seconds
from hyrex.runtime.content import is_json
from hyrex.task import HyrexTask, coder_of, decoded_result
from hyrex.worker.child.queued_block import QueuedBlock
from hyrex.worker.child.run_context import context_of
from hyrex.worker.child.unknown_signature import given_back, postponed
from hyrex.worker.shared.child_options import ON_ERROR_NS
from hyrex.worker.shared.description import attempt, describe
from hyrex.worker.shared.logs import warn
from hyrex.worker.shared.outcome import (
    Cancelled,
    Completed,
    Ending,
    ErrorInfo,
    Expired,
    Failed,
    Outcome,
    Released,
    StopCause,
    TimedOut,
)
from hyrex.worker.shared.runs import Run, RunTerms, block_of


class Execution:
    """A run in a child. Values that most runs never change are defaults of the class: setting an attribute
    takes time."""

    task: HyrexTask[..., Any] | None = None
    thread_id = 0
    started_ns = 0  # when user code began; 0 before
    interruptible = False  # user code is running: its thread may be made to raise
    decoded = False  # its payload has been decoded by the codecs of its app
    interrupted = False  # its thread was made to raise
    handling = False  # the run is over, and its error handler runs: only its own time limit stops that
    stop: StopCause | None = None
    stop_reason = ""
    gate: threading.Lock  # from when it is asked to stop; held while its thread may be made to raise
    fault: BaseException | None = None  # an error that a part of it caused in the event loop
    error: BaseException | None = None  # what decoding, the function or encoding raised
    info: RunInfo | None = None  # what its middleware is told; None where it has none
    arguments: Mapping[str, Any] = MappingProxyType({})
    _context: HyrexContext | None = None
    _run: Run | None = None

    def __init__(self, queued: QueuedBlock, place: int, token: int, slot: int) -> None:
        """About to begin with one run of a block."""
        self.queued = queued
        self.place = place
        self.token = token
        self.slot = slot
        self._began = time.time()

    @classmethod
    def of(cls, run: Run, worker: str, slot: int = 0) -> "Execution":
        """About to begin with a run that is in no block."""
        return cls(QueuedBlock(block_of(run), 0, worker), 0, run.token, slot)

    def ask_to_stop(self, cause: StopCause, reason: str = "") -> None:
        """Note why it is to stop. Once, and before anybody looks whether its thread may be made to raise."""
        self.gate = threading.Lock()
        self.stop_reason = reason
        self.stop = cause  # last: whoever sees it finds the gate

    @property
    def terms(self) -> RunTerms:
        """What it shares with the other runs of its block."""
        return self.queued.block.terms

    @property
    def run(self) -> Run:
        """The run, with all that is known of it; made when it is asked for."""
        if self._run is None:
            self._run = self.queued.block.run(self.place)
        return self._run

    def __call__(self) -> HyrexContext:
        """The context that user code asks for; made when it does."""
        if self._context is None:
            self._context = context_of(self.run, self.queued.worker, self._began, self.task)
        return self._context

    def has_made(self, context: HyrexContext) -> bool:
        """Return True if this context is that of this run; makes none."""
        return self._context is context

    def for_handler(self) -> "Execution":
        """The execution of this run's error handler: the same context, but a time limit of its own."""
        made = Execution.of(replace(self.run, timeout_ns=ON_ERROR_NS), self.queued.worker, self.slot)
        made.handling, made.task, made.error, made.info = True, self.task, self.error, self.info
        made._context = attempt(self, lambda _: None)
        return made

    def overdue(self, now_ns: int) -> bool:
        """Return True if the timeout has passed since user code began."""
        timeout_ns = self.terms.timeout_ns
        return bool(timeout_ns and self.started_ns and now_ns - self.started_ns >= timeout_ns)

    def ending(self, outcome: Outcome) -> Ending:
        """The end of this run, which ends now."""
        if not self.started_ns:
            return Ending(self.token, outcome)
        elapsed_ns = time.monotonic_ns() - self.started_ns
        # User code may have set the clock back (freezegun does).
        return Ending(self.token, outcome, elapsed_ns if elapsed_ns > 0 else 0)


def prepare(execution: Execution, tasks: Mapping[str, HyrexTask[..., Any]]) -> Outcome | None:
    """Find the function and decode its arguments. Return an outcome if that fails, else None."""
    queued = execution.queued
    if queued.block.begins_by_ns and queued.block.has_expired(execution.place):
        return Expired()
    task = execution.task = queued.task or tasks.get(queued.block.terms.name)
    if queued.task is None:  # the first of its block, or none of them can be executed
        outcome = _unable(execution)
        if outcome is not None:
            return outcome
        queued.task = task
    assert task is not None
    try:
        if queued.block.terms.codec or queued.block.nodes:
            decode_payload(execution, task)
        execution.arguments = queued.arguments(execution.place, task)
    except BaseException as error:  # a validator is user code: it may call sys.exit()
        execution.error = error
        return (
            given_back(execution.run, error)
            or _not_now(execution, error)
            or Failed(describe(error), retryable=False)
        )
    return None


def decode_payload(execution: Execution, task: HyrexTask[..., Any]) -> None:
    """Decode the payload by the codecs of its app, once, and put the results of other nodes into it.

    Raises PayloadUnavailable, PayloadUnreadable, ArgumentInvalid.
    """
    if execution.decoded:
        return
    block, place = execution.queued.block, execution.place
    payload = block.payloads[place]
    if block.terms.codec:
        codecs = task._stack.codecs
        assert codecs is not None
        payload = codecs.decode(block.terms.codec, payload, PayloadInfo(task.name, "arguments"))
    if (node := block.node(place)) is not None and node.results:
        results = [(parameter, decoded_result(task, result, of)) for parameter, result, of in node.results]
        payload = with_results(task.name, payload, results)
    block.payloads[place] = payload
    execution.decoded = True


def _not_now(execution: Execution, error: BaseException) -> Outcome | None:
    """The outcome of a run whose payload is not available here or now; None if that is not so."""
    if not isinstance(error, PayloadUnavailable):
        return None
    return postponed(execution.run, str(error)) or Failed(describe(error), retryable=False)


def _unable(execution: Execution) -> Outcome | None:
    """The outcome of a run that cannot be executed here; None if it can be."""
    terms, told = execution.terms, execution.queued.block.told
    if told is not None:  # it was killed, and its child could not call the handler
        execution.error = TaskTimeout(told.message)
        return TimedOut(told)
    if execution.task is None:
        return _refused("UnknownTask", f"this worker has no task {terms.name!r}")
    if not is_json(terms.content_type):
        return _refused("UnknownEncoding", f"payload is {terms.content_type!r}")
    if terms.codec and execution.task._stack.codecs is None:
        return _refused(
            "UnknownEncoding",
            f"payload has the codec {terms.codec!r}, and this app has none: HyrexApp(codec=)",
        )
    return None


def conclude(execution: Execution, value: object) -> Outcome:
    """The outcome of a function that returned, even if it had been asked to stop."""
    task = execution.task
    assert task is not None
    try:
        result = coder_of(task).encode_result(value)
        if CODECS and (codecs := task._stack.codecs) is not None:
            result = codecs.encode_result(result, task.name)
        if len(result) > PAYLOAD_LIMIT_BYTES:
            raise PayloadTooLarge(task.name, len(result), PAYLOAD_LIMIT_BYTES)
        return Completed(result)
    except PayloadUnavailable as error:  # of a codec: the run may succeed when its store is back
        execution.error = error
        return _failed(execution, error)
    except BaseException as error:  # a serialiser is user code
        execution.error = _unstorable(execution, value, error)
        return Failed(describe(execution.error), retryable=False)


async def conclude_off_loop(execution: Execution, value: object) -> Outcome:
    """As conclude(), in a thread if a codec of its app waits for others."""
    codecs = execution.task._stack.codecs if execution.task is not None else None
    if codecs is not None and codecs.blocking:
        return await asyncio.to_thread(conclude, execution, value)
    return conclude(execution, value)


def explain(execution: Execution, error: BaseException) -> Outcome:
    """The outcome of a function that raised: by why it was asked to stop, else by its error."""
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


def calls_on_error(execution: Execution, outcome: Outcome) -> bool:
    """Return True if the task has an error handler and this outcome is for it."""
    task = execution.task
    return task is not None and task.config.on_error is not None and isinstance(outcome, Failed | TimedOut)


def call_on_error(execution: Execution) -> Any:
    """Call the task's error handler; return what it returns (a coroutine if it is async)."""
    assert execution.task is not None
    handler = execution.task.config.on_error
    assert handler is not None
    return handler(execution.error) if _takes_argument(handler) else handler()  # type: ignore[call-arg]


def execution_here(context: Context | None = None) -> Execution | None:
    """The execution whose code runs here (or in `context`), by its ContextVar; None if there is none."""
    bound = bound_in(context)
    return bound if isinstance(bound, Execution) else None


def _unstorable(execution: Execution, value: object, error: BaseException) -> BaseException:
    """The error that a run fails with because its result cannot be stored."""
    if inspect.iscoroutine(value):
        attempt(
            value.close, lambda _: None
        )  # else Python warns, later and elsewhere, that it was not awaited
        text = f"{execution.run.name} returned a coroutine: await it, or make the task `async def`"
        return ResultNotSerializable(text)
    if isinstance(error, PayloadTooLarge):
        text = f"the result takes {error.size_bytes:,} bytes, the limit is {error.limit_bytes:,}"
        return ResultNotSerializable(text)
    return error


def _failed(execution: Execution, error: BaseException) -> Failed:
    parts = list(_parts(error))
    if any(_is_final(execution, type(part)) for part in parts):
        return Failed(describe(error), retryable=False)
    asked = (_asked_delay_s(execution, part) for part in parts if issubclass(type(part), RetryAfter))
    delay_s = next((delay_s for delay_s in asked if delay_s is not None), None)
    return Failed(describe(error), True, _retry_delay_s(execution) if delay_s is None else delay_s)


def _parts(error: BaseException) -> Iterator[BaseException]:
    """The error, and all that it holds if it is a group: asyncio.TaskGroup wraps a single error too."""
    waiting = [error]
    while waiting:
        part = waiting.pop()
        yield part
        if issubclass(type(part), BaseExceptionGroup):
            waiting.extend(BaseExceptionGroup.exceptions.__get__(part))


def _is_final(execution: Execution, kind: type[BaseException]) -> bool:
    """Return True if no retry may follow. By the error's type, as its `__class__` may be user code."""
    assert execution.task is not None
    unwanted = execution.task.config.no_retry_on
    return issubclass(kind, NonRetryable) or attempt(lambda: issubclass(kind, unwanted), lambda _: False)


def _asked_delay_s(execution: Execution, error: BaseException) -> float | None:
    """The delay that a RetryAfter asks for; None, with a warning, if it is not a valid one."""
    try:
        return checked_seconds("RetryAfter.seconds", error.seconds)  # type: ignore[attr-defined]
    except BaseException as odd:
        warn(f"task {execution.run.name}: RetryAfter has no valid delay; using the task's backoff", odd)
        return None


def _retry_delay_s(execution: Execution) -> float | None:
    """The delay by the task's backoff; None, which leaves it to the broker, if the backoff raises."""
    task = execution.task
    assert task is not None
    number = execution.run.attempt_number + 1
    return attempt(lambda: checked_seconds("retry_backoff", task.retry_delay_s(number)), lambda _: None)


def _timeout_info(execution: Execution, error: BaseException) -> ErrorInfo:
    told = describe(error)
    text = f"exceeded its timeout of {execution.run.timeout_ns / 1e9:g} s"
    return ErrorInfo("TaskTimeout", text, told.traceback, told.where, told.place)


def _refused(kind: str, message: str) -> Failed:
    return Failed(ErrorInfo(kind, message), retryable=False)


def _takes_argument(handler: Any) -> bool:
    try:
        parameters = inspect.signature(handler).parameters.values()
    except (TypeError, ValueError):
        return True
    return any(p.kind is not p.KEYWORD_ONLY and p.kind is not p.VAR_KEYWORD for p in parameters)
