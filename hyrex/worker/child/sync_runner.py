"""Runs sync tasks, one at a time in each thread; the main thread is the first of the threads."""

import asyncio
import inspect
import signal
import threading
from collections.abc import Callable, Sequence
from typing import Any

from hyrex.context import enter_context
from hyrex.errors import TaskCancelled, TaskTimeout
from hyrex.middleware import Enter
from hyrex.task import invoke
from hyrex.worker.child.around_runs import RunWithin, within
from hyrex.worker.child.execution import (
    Execution,
    call_on_error,
    calls_on_error,
    conclude,
    explain,
    prepare,
)
from hyrex.worker.child.forks import end_if_fork
from hyrex.worker.child.interrupt import (
    INTERRUPT_SIGNAL,
    forget_interrupt,
    interrupt,
    raise_in_main_thread_by,
)
from hyrex.worker.child.runner import Runner, Workplace
from hyrex.worker.child.surroundings import Surroundings
from hyrex.worker.shared.description import describe
from hyrex.worker.shared.logs import warn
from hyrex.worker.shared.outcome import Completed, Ending, Failed, Outcome, StopCause


class SyncRunner(Runner):
    """Executes sync functions in `slots` threads."""

    def __init__(self, workplace: Workplace) -> None:
        """Nothing runs before `run` is called."""
        super().__init__(workplace)
        self._arrived = threading.Condition(self._lock)
        self._in_main: Execution | None = None
        self._execute: Callable[[Execution], Ending] = self._execute_plainly

    def run(self) -> None:
        """Execute runs in this thread and in others until told to finish."""
        if self.surround():
            self._execute = self._execute_within
        raise_in_main_thread_by(self._error_for_main_thread)
        self._surroundings = Surroundings(signal.SIGINT, signal.SIGTERM, INTERRUPT_SIGNAL)
        others = [
            threading.Thread(target=self._work_beside, args=(slot,), name=f"hyrex-{slot}", daemon=True)
            for slot in range(1, self._place.slots)
        ]
        for thread in others:
            thread.start()
        self._work(0)
        for thread in others:
            thread.join()

    def check(self, now_ns: int) -> None:
        """Ask the runs to stop whose timeout has passed."""
        for execution in self.executions():
            if (
                execution.stop is None
                and execution.overdue(now_ns)
                and self._note_stop(execution, StopCause.TIMEOUT)
            ):
                self._ask(execution)

    def _wake(self) -> None:
        with self._arrived:
            self._arrived.notify_all()

    def _ask(self, execution: Execution) -> None:
        # The run's own thread takes the gate for good if user code is over by now (`_leave`).
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

    def _work_beside(self, slot: int) -> None:
        try:
            self._work(slot)
        except BaseException as error:
            self._break_off(error)

    def _work(self, slot: int) -> None:
        surroundings, fresh = self._surroundings, self._place.contexts.fresh
        execution = self._first(slot)
        while execution is not None:
            try:
                ending = fresh().run(self._execute, execution)
            # From a signal handler that user code has set, and that ran outside of user code.
            except BaseException as odd:
                ending = execution.ending(Failed(describe(odd), retryable=True))
            if len(self._executions) == 1 and surroundings.may_have_changed():
                surroundings.restore()
            execution = self._follow(execution, ending) or self._first(slot)

    def _follow(self, execution: Execution, ending: Ending) -> Execution | None:
        """As _end and _begin, but the end is sent by this thread, which saves waking the one that writes.

        If runs wait, they begin first.
        """
        self._place.ledger.end(execution.slot)
        self._place.socket.end_here(ending, more=bool(self._pending))
        with self._lock:
            del self._executions[execution.token]
            return self._next(execution.slot)

    def _first(self, slot: int) -> Execution | None:
        """The next run, waited for if there is none; None if there will be none."""
        while True:
            with self._arrived:
                self._arrived.wait_for(lambda: self._pending or self._finishing)
                if not self._pending:
                    return None
                execution = self._next(slot)
            if execution is not None:
                return execution

    def _execute_plainly(self, execution: Execution) -> Ending:
        """Execute a run, with its error handler; return how it ended."""
        enter_context(execution)
        outcome = prepare(execution, self._place.tasks)
        if outcome is None:
            value, error = self._settled(execution, invoke, execution.task, execution.arguments)
            outcome = conclude(execution, value) if error is None else explain(execution, error)
        return self._told(execution, outcome)

    def _execute_within(self, execution: Execution) -> Ending:
        """As _execute_plainly, within the task's middleware."""
        hooks = self._around.get(execution.terms.name)
        if hooks is None:
            return self._execute_plainly(execution)
        enter_context(execution)
        refused = prepare(execution, self._place.tasks)
        if refused is not None and execution.error is None:
            return self._told(execution, refused)
        run = RunWithin(hooks, execution, refused)
        _, error = self._settled(execution, _call_within, run, None)
        return self._told(execution, run.ended(error))

    def _told(self, execution: Execution, outcome: Outcome) -> Ending:
        """The ending, after the error handler was called if this outcome is for it."""
        ending = execution.ending(outcome)
        if type(outcome) is not Completed and calls_on_error(execution, outcome):
            self._call_on_error(self._hand_over(execution, ending))
        return ending

    def _settled(
        self, execution: Execution, call: Callable[[Any, Any], object], subject: object, given: object
    ) -> tuple[object, BaseException | None]:
        """Call user code; return what it returned, or what it raised.

        One interrupt may come until `_leave` is over, and none after that.
        """
        value: object = None
        error: BaseException | None = None
        over = False
        execution.thread_id = threading.get_ident()
        if execution.slot == 0:
            self._in_main = execution
        try:
            try:
                execution.started_ns = self._place.ledger.restart_clock(execution.slot)
                execution.interruptible = True
                if execution.stop is not None:  # asked to stop while the arguments were decoded
                    raise _error_for(execution)
                value = call(subject, given)
            except BaseException as raised:
                error = raised
            end_if_fork(error)
            over = True
            _leave(execution)
        except (TaskTimeout, TaskCancelled) as late:
            error = error if over else late
            _leave(execution)
        return value, error

    def _call_on_error(self, handling: Execution) -> None:
        """Call the task's error handler, for as long as it may take."""
        hooks = self._around.get(handling.terms.name)
        around = hooks.on_error if hooks is not None and handling.info is not None else ()
        _, odd = self._settled(handling, _handle, handling, around)
        if odd is not None:
            warn(f"on_error raised (task {handling.run.name})", odd)


def _call_within(run: RunWithin, _: object) -> object:
    return run.call()


def _handle(handling: Execution, around: Sequence[Enter]) -> None:
    """Call an error handler within what is around it."""
    if not around:
        _handle_plainly(handling)
        return
    assert handling.info is not None
    within(around, handling.info, lambda: _handle_plainly(handling))


def _handle_plainly(handling: Execution) -> None:
    """Call an error handler, and run what it returns if that is a coroutine."""
    told = call_on_error(handling)
    if inspect.isawaitable(told):
        asyncio.run(_await(told))


async def _await(told: object) -> None:
    if inspect.isawaitable(told):
        await told


def _error_for(execution: Execution) -> type[BaseException]:
    return TaskTimeout if execution.stop is StopCause.TIMEOUT else TaskCancelled


def _leave(execution: Execution) -> None:
    """Let no interrupt come after user code, and drop one that is pending.

    Who asks notes the stop before it looks at `interruptible`, and this the other way round: one of them sees
    what the other has done. If both do, the gate decides. If an interrupt comes in here, this begins again;
    then the gate may be taken already, so that `acquire` has a timeout.
    """
    while True:
        try:
            execution.interruptible = False
            if execution.stop is not None:
                execution.gate.acquire(True, 0.1)
                forget_interrupt()
            return
        except (TaskTimeout, TaskCancelled):
            continue
