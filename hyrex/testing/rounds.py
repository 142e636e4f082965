"""The runs of one inline task: one attempt after the other, by the worker's own rules.

Written once, as a coroutine. On an event loop it awaits; in a thread it runs to its end in one step, because
nothing that it awaits there is still pending.
"""

import asyncio
import contextvars
import inspect
import logging
import threading
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import fields, replace
from datetime import UTC, datetime
from typing import Any, Final, Protocol, TypeVar

import msgspec

from hyrex.backend.encoding import codec_name
from hyrex.backend.outgoing import Outgoing
from hyrex.context import bind_context
from hyrex.errors import ArgumentInvalid, ResultNotSerializable
from hyrex.options import TaskConfig
from hyrex.runs import RunSnapshot, TaskError, TaskSnapshot
from hyrex.status import TaskStatus
from hyrex.task import HyrexTask
from hyrex.testing.timeouts import SenderTimedOut, call_within_timeout
from hyrex.worker.child.around_runs import RunWithin, within
from hyrex.worker.child.execution import (
    Execution,
    call_on_error,
    calls_on_error,
    prepare,
)
from hyrex.worker.shared.description import describe
from hyrex.worker.shared.outcome import (
    Cancelled,
    Completed,
    ErrorInfo,
    Failed,
    Outcome,
    Released,
    StopCause,
    TimedOut,
)
from hyrex.worker.shared.runs import NodeOfRun, Run, RunTerms

__all__ = ["InLoop", "InThread", "Way", "run_rounds"]

log = logging.getLogger("hyrex.testing")

T = TypeVar("T")
WORKER: Final = "inline"
SAME_IN_RUNS: Final = {*RunTerms.__struct_fields__} & {each.name for each in fields(TaskConfig)}
"""Options that a worker is told as they are."""


class Way(Protocol):
    """How plain functions are called and coroutines awaited."""

    async def call(self, function: Callable[[], T]) -> T: ...

    async def wait(self, awaitable: Awaitable[T]) -> T: ...


class InLoop:
    """Coroutines on the running loop; plain functions in a thread, where no loop runs."""

    async def call(self, function: Callable[[], T]) -> T:
        """Call a plain function."""
        return await asyncio.to_thread(function)

    async def wait(self, awaitable: Awaitable[T]) -> T:
        """Await what a function returned."""
        return await awaitable


class InThread:
    """Plain functions here; coroutines on a loop of their own."""

    async def call(self, function: Callable[[], T]) -> T:
        """Call a plain function."""
        return function()

    async def wait(self, awaitable: Awaitable[T]) -> T:
        """Await what a function returned."""

        async def main() -> T:
            return await awaitable

        if asyncio._get_running_loop() is None:
            return asyncio.run(main())
        return _in_other_thread(lambda: asyncio.run(main()))

    @staticmethod
    def drive(coroutine: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine that never suspends."""
        try:
            coroutine.send(None)
        except StopIteration as end:
            value: T = end.value
            return value
        raise RuntimeError("an inline task suspended where it must not")


def _in_other_thread(function: Callable[[], T]) -> T:
    results: list[T] = []
    errors: list[BaseException] = []

    def run() -> None:
        try:
            results.append(function())
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=contextvars.copy_context().run, args=(run,))
    thread.start()
    thread.join()
    if errors:
        raise errors[0]
    return results[0]


async def run_rounds(
    outgoing: Outgoing, task: HyrexTask[..., Any], way: Way, node: NodeOfRun | None = None
) -> tuple[TaskSnapshot, BaseException | None]:
    """Run a task until it completes or has no attempts left; return its end and its last run's error."""
    run = _first_run(outgoing, node)
    runs: list[RunSnapshot] = []
    while True:
        outcome, error = await _one_round(Execution.of(run, WORKER), task, way)
        runs.append(_run_state(run, outcome))
        if not _is_retried(run, outcome):
            state = TaskSnapshot(run.task_id, run.name, run.queue, runs[-1].status, tuple(runs))
            return replace(state, node=node.node) if node is not None else state, error
        number = run.run_number + 1
        run = _replaced(run, number)


def _first_run(outgoing: Outgoing, node: NodeOfRun | None) -> Run:
    config = outgoing.spec.config
    return Run(
        token=0,
        task_id=outgoing.task_id,
        payload=outgoing.payload,
        timeout_ns=int((config.timeout_seconds or 0) * 1e9),
        parent_id=outgoing.origin.parent_id,
        root_id=outgoing.origin.root_id or outgoing.task_id,
        trace_context=outgoing.origin.trace_context,
        submitted_ns=int(datetime.now(UTC).timestamp() * 1e9),
        headers=dict(outgoing.spec.options.headers),
        codec=codec_name(outgoing.spec),
        node=node,
        **{name: getattr(config, name) for name in SAME_IN_RUNS},
    )


def _replaced(run: Run, number: int) -> Run:
    again: Run = msgspec.structs.replace(run, run_number=number, attempt_number=number)
    return again


def _is_retried(run: Run, outcome: Outcome) -> bool:
    retryable = isinstance(outcome, TimedOut) or (isinstance(outcome, Failed) and outcome.retryable)
    return retryable and run.attempt_number < run.max_retries


async def _one_round(
    execution: Execution, task: HyrexTask[..., Any], way: Way
) -> tuple[Outcome, BaseException | None]:
    with bind_context(execution):
        refused = _prepared(execution, task)
        run = RunWithin(task._stack.hooks, execution, refused)
        if refused is not None and execution.error is None:
            await _call_on_error(execution, refused, way)
            return refused, _error_of(refused)
        error: BaseException | None = None
        try:
            await _call(run, task, way)
        except (KeyboardInterrupt, GeneratorExit):
            raise
        except BaseException as raised:
            if isinstance(raised, SenderTimedOut) and execution.stop is None:
                raise  # it ends the run that sent this one, and this one with it
            error = raised
        outcome = run.ended(error)
        await _call_on_error(execution, outcome, way)
        return outcome, _error_of(outcome) if error is None or refused is not None else error


def _prepared(execution: Execution, task: HyrexTask[..., Any]) -> Outcome | None:
    refused = prepare(execution, {execution.run.name: task})
    if isinstance(refused, Released) and execution.error is not None:
        return Failed(describe(execution.error), retryable=False)  # here is no other worker to take it
    return refused


async def _call(run: RunWithin, task: HyrexTask[..., Any], way: Way) -> None:
    execution = run.execution
    if task.is_async:
        await way.wait(_within_timeout(execution, run.call_async()))
    else:
        await way.call(lambda: call_within_timeout(execution, run.call))


async def _within_timeout(execution: Execution, running: Awaitable[Any]) -> Any:
    limit = asyncio.timeout(execution.run.timeout_ns / 1e9 if execution.run.timeout_ns else None)
    try:
        async with limit:
            return await running
    except TimeoutError:
        if limit.expired():
            execution.stop = StopCause.TIMEOUT
        raise


async def _call_on_error(execution: Execution, outcome: Outcome, way: Way) -> None:
    if not calls_on_error(execution, outcome):
        return
    try:
        told = await way.call(lambda: _told_within(execution))
        if inspect.isawaitable(told):
            await way.wait(told)
    except (Exception, SystemExit):
        log.exception("on_error raised", extra={"task": execution.run.name})


def _told_within(execution: Execution) -> Any:
    """Call the error handler. What it returns, a coroutine, is awaited outside of what is around it."""
    task, info = execution.task, execution.info
    if task is None or info is None or not task._stack.hooks.on_error:
        return call_on_error(execution)
    return within(task._stack.hooks.on_error, info, lambda: call_on_error(execution))


def _error_of(outcome: Outcome) -> BaseException | None:
    if not isinstance(outcome, Failed):
        return None
    kind = ArgumentInvalid if outcome.error.type == "ArgumentInvalid" else ResultNotSerializable
    return kind(outcome.error.message)


def _run_state(run: Run, outcome: Outcome) -> RunSnapshot:
    now = datetime.now(UTC)
    state = RunSnapshot(
        run_number=run.run_number,
        attempt_number=run.attempt_number,
        status=TaskStatus.LOST,
        result=None,
        error=None,
        reason="",
        started=now,
        finished=now,
        worker=WORKER,
    )
    match outcome:
        case Completed(result):
            return replace(state, status=TaskStatus.COMPLETED, result=result)
        case Failed(error):
            return replace(state, status=TaskStatus.FAILED, error=_told(error))
        case TimedOut(error):
            return replace(state, status=TaskStatus.TIMED_OUT, error=_told(error))
        case Cancelled(reason):
            return replace(state, status=TaskStatus.CANCELLED, reason=reason)
        case _:
            return state


def _told(error: ErrorInfo) -> TaskError:
    return TaskError(error.type, error.message, error.traceback)
