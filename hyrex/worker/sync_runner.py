"""Runs sync functions, one in each thread; the main thread is the first of them."""

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
from hyrex.worker.interrupt import forget_interrupt, interrupt, raise_in_main_thread_by
from hyrex.worker.outcome import Ending, Outcome, StopCause
from hyrex.worker.runner import Runner, Workplace

_MISSING = object()


class SyncRunner(Runner):
    """Executes sync functions in `slots` threads."""

    def __init__(self, workplace: Workplace) -> None:
        """Prepare; nothing runs before `run`."""
        super().__init__(workplace)
        self._arrived = threading.Condition(self._lock)
        self._in_main: Execution | None = None

    def run(self) -> None:
        """Execute runs in this thread and in others until finished."""
        raise_in_main_thread_by(self._error_for_main_thread)
        others = [
            threading.Thread(target=self._work, args=(slot,), name=f"hyrex-{slot}", daemon=True)
            for slot in range(1, self._place.slots)
        ]
        for thread in others:
            thread.start()
        self._work(0)
        for thread in others:
            thread.join()

    def _tell(self, ending: Ending) -> None:
        # No thread has to be woken for it, and nothing is left to run that it would hold up.
        self._place.link.end_here(ending, more=bool(self._pending))

    def check(self, now_ns: int) -> None:
        """Ask those to stop whose time is up."""
        for execution in self.executions():
            if execution.stop is None and execution.overdue(now_ns):
                execution.stop = StopCause.TIMEOUT
                self._ask(execution)

    def _wake(self) -> None:
        with self._arrived:
            self._arrived.notify_all()

    def _ask(self, execution: Execution) -> None:
        # The gate is shut by the run's own thread when user code is over (`_leave`).
        if execution.gate.acquire(blocking=False):
            try:
                if execution.interruptible:
                    interrupt(execution.thread_id, _error_for(execution))
            finally:
                execution.gate.release()

    def _error_for_main_thread(self) -> type[BaseException] | None:
        execution = self._in_main
        if execution is None or not execution.interruptible or execution.stop is None:
            return None
        execution.interruptible = False
        return _error_for(execution)

    def _work(self, slot: int) -> None:
        while True:
            execution = self._begin(slot)
            if execution is None:
                with self._arrived:
                    self._arrived.wait_for(lambda: self._pending or self._finishing)
                    if not self._pending:
                        return
                continue
            if slot == 0:
                self._in_main = execution
            outcome = self._execute(execution)
            self._end(execution, execution.ending(outcome))

    def _execute(self, execution: Execution) -> Outcome:
        execution.thread_id = threading.get_ident()
        outcome = prepare(execution, self._place.tasks)
        if outcome is not None:
            return outcome
        value: object = _MISSING
        caught: BaseException | None = None
        with bind_context(execution.context):
            try:
                value = self._call(execution)
            except BaseException as error:
                caught = error
            end_if_fork(caught)
            _leave(execution)
            if caught is None and value is not _MISSING:
                return conclude(execution, value)
            return self._failed(execution, caught or TaskTimeout())

    def _call(self, execution: Execution) -> object:
        assert execution.task is not None
        self._place.ledger.restart_clock(execution.slot)
        execution.started_ns = time.monotonic_ns()
        execution.interruptible = True
        if execution.stop is not None:  # asked while the arguments were decoded
            raise _error_for(execution)
        return execution.task.invoke(execution.arguments)

    def _failed(self, execution: Execution, error: BaseException) -> Outcome:
        outcome = explain(execution, error)
        if calls_on_error(execution, outcome):
            try:
                told = call_on_error(execution, error)
                if inspect.isawaitable(told):
                    asyncio.run(_await(told))
            except BaseException:
                log.exception("on_error raised", extra={"task": execution.run.name})
        return outcome


async def _await(told: object) -> None:
    if inspect.isawaitable(told):
        await told


def _error_for(execution: Execution) -> type[BaseException]:
    return TaskTimeout if execution.stop is StopCause.TIMEOUT else TaskCancelled


def _leave(execution: Execution) -> None:
    """Shut the gate behind user code: no interrupt comes later, and none that is pending strikes.

    An interrupt may strike in here; then it is done again. An attempt to shut what is shut
    already ends after a moment.
    """
    while True:
        try:
            execution.interruptible = False
            execution.gate.acquire(True, 0.1)
            if execution.stop is not None:
                forget_interrupt(execution.thread_id)
            return
        except (TaskTimeout, TaskCancelled):
            continue
