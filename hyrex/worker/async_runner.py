"""Runs coroutine functions, many at a time, on one event loop in the main thread."""

from __future__ import annotations

import asyncio
import inspect
import threading
import time

from hyrex.context import bind_context
from hyrex.errors import TaskCancelled, TaskTimeout
from hyrex.worker.execution import (
    Execution,
    call_on_error,
    calls_on_error,
    conclude,
    explain,
    log,
    prepare,
)
from hyrex.worker.forks import end_if_fork
from hyrex.worker.interrupt import interrupt, raise_in_main_thread_by
from hyrex.worker.outcome import Outcome, StopCause
from hyrex.worker.runner import Runner, Workplace

_BLOCKED_NS = 1_000_000_000


class AsyncRunner(Runner):
    """Executes up to `slots` coroutine functions at once."""

    def __init__(self, workplace: Workplace) -> None:
        """Prepare; nothing runs before `run`."""
        super().__init__(workplace)
        self._loop = asyncio.new_event_loop()
        self._free = list(range(workplace.slots - 1, -1, -1))
        self._tasks: dict[asyncio.Task[None], Execution] = {}
        self._done = self._loop.create_future()
        self._waking = False
        self._probed_ns = 0  # when the watchdog last asked the loop for a sign of life
        self._answered_ns = 0
        self._complained = False
        self._thread_id = threading.get_ident()

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        """The child's event loop; the lifespan lives on it too."""
        return self._loop

    def run(self) -> None:
        """Execute runs until finished."""
        raise_in_main_thread_by(self._error_for_main_thread)
        self._loop.call_soon(self._start_pending)
        self._loop.run_until_complete(self._done)

    def disown(self) -> None:
        """As in Runner: a fork that awaits goes no further."""
        self._loop.stop()

    def check(self, now_ns: int) -> None:
        """See whether the loop is blocked, and by whom."""
        if not self._executions:
            self._probed_ns = self._answered_ns = 0
        elif self._answered_ns >= self._probed_ns:
            self._probed_ns, self._complained = now_ns, False
            self._loop.call_soon_threadsafe(self._answer)
        elif now_ns - self._probed_ns > _BLOCKED_NS:
            self._blame(now_ns)

    def _answer(self) -> None:
        self._answered_ns = time.monotonic_ns()

    def _blame(self, now_ns: int) -> None:
        execution = self._current()
        if execution is None:
            return
        if not self._complained:
            self._complained = True
            seconds = (now_ns - self._probed_ns) / 1e9
            log.warning(
                "task %s blocks the event loop for %.1f s; use `await`, or make it a sync task",
                execution.run.name,
                seconds,
            )
        if execution.stop is None and execution.overdue(now_ns):
            execution.stop = StopCause.TIMEOUT
        if execution.stop is not None and execution.interruptible and not execution.interrupted:
            execution.interrupted = True
            interrupt(execution.thread_id, TaskTimeout)

    def _current(self) -> Execution | None:
        task = asyncio.current_task(self._loop)
        return self._tasks.get(task) if task is not None else None

    def _error_for_main_thread(self) -> type[BaseException] | None:
        execution = self._current()
        if execution is None or not execution.interruptible or execution.stop is None:
            return None
        return TaskTimeout if execution.stop is StopCause.TIMEOUT else TaskCancelled

    def _wake(self) -> None:
        if not self._waking:
            self._waking = True
            self._loop.call_soon_threadsafe(self._start_pending)

    def _start_pending(self) -> None:
        self._waking = False
        while self._free:
            execution = self._begin(self._free[-1])
            if execution is None:
                break
            self._free.pop()
            task = self._loop.create_task(self._run(execution), name=f"hyrex:{execution.run.name}")
            self._tasks[task] = execution
            task.add_done_callback(self._ended)
        if self._finishing and not self._tasks and not self._pending and not self._done.done():
            self._done.set_result(None)

    def _ended(self, task: asyncio.Task[None]) -> None:
        execution = self._tasks.pop(task)
        self._free.append(execution.slot)
        if self._pending or self._finishing:
            self._start_pending()

    def _ask(self, execution: Execution) -> None:
        self._loop.call_soon_threadsafe(self._cancel, execution)

    def _cancel(self, execution: Execution) -> None:
        if not execution.interruptible:
            return
        for task, candidate in self._tasks.items():
            if candidate is execution:
                task.cancel(execution.stop_reason or str(execution.stop))

    def _time_is_up(self, execution: Execution) -> None:
        if execution.stop is None:
            execution.stop = StopCause.TIMEOUT
            self._cancel(execution)

    async def _run(self, execution: Execution) -> None:
        outcome = await self._execute(execution)
        self._end(execution, execution.ending(outcome))

    async def _execute(self, execution: Execution) -> Outcome:
        outcome = prepare(execution, self._place.tasks)
        if outcome is not None:
            return outcome
        with bind_context(execution.context):
            try:
                value = await self._call(execution)
            except BaseException as error:
                end_if_fork(error)
                execution.interruptible = False
                return await self._failed(execution, error)
            end_if_fork(None)
            return conclude(execution, value)

    async def _call(self, execution: Execution) -> object:
        assert execution.task is not None
        run, timer = execution.run, None
        execution.thread_id = self._thread_id
        self._place.ledger.restart_clock(execution.slot)
        execution.started_ns = time.monotonic_ns()
        if run.timeout_ns:
            timer = self._loop.call_later(run.timeout_ns / 1e9, self._time_is_up, execution)
        execution.interruptible = True
        try:
            if execution.stop is not None:  # asked before it began
                raise TaskCancelled()
            return await execution.task.invoke(execution.arguments)
        finally:
            execution.interruptible = False
            if timer is not None:
                timer.cancel()

    async def _failed(self, execution: Execution, error: BaseException) -> Outcome:
        outcome = explain(execution, error)
        if calls_on_error(execution, outcome):
            try:
                told = call_on_error(execution, error)
                if inspect.isawaitable(told):
                    await told
            except BaseException:
                log.exception("on_error raised", extra={"task": execution.run.name})
        return outcome
