"""Runs sync tasks, one at a time in each thread; the main thread is the first of the threads."""

import asyncio
import inspect
import signal
import threading
import time
from collections.abc import Callable

from hyrex.context import enter_context
from hyrex.errors import TaskCancelled, TaskTimeout
from hyrex.task import invoke
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
from hyrex.worker.shared.outcome import Ending, Failed, StopCause


class SyncRunner(Runner):
    """Executes sync functions in `slots` threads."""

    def __init__(self, workplace: Workplace) -> None:
        """Nothing runs before `run` is called."""
        super().__init__(workplace)
        self._arrived = threading.Condition(self._lock)
        self._in_main: Execution | None = None

    def run(self) -> None:
        """Execute runs in this thread and in others until told to finish."""
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

    def _tell(self, ending: Ending) -> None:
        # By this thread itself, which saves waking the writing thread. If runs wait, they begin first.
        self._place.socket.end_here(ending, more=bool(self._pending))

    def check(self, now_ns: int) -> None:
        """Ask the runs to stop whose timeout has passed."""
        for execution in self.executions():
            if execution.stop is None and execution.overdue(now_ns):
                execution.stop = StopCause.TIMEOUT
                self._ask(execution)

    def _wake(self) -> None:
        with self._arrived:
            self._arrived.notify_all()

    def _ask(self, execution: Execution) -> None:
        # The run's own thread takes the gate for good when user code is over (`_leave`).
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
        surroundings, contexts = self._surroundings, self._place.contexts
        while True:
            execution = self._begin(slot)
            if execution is None:
                with self._arrived:
                    self._arrived.wait_for(lambda: self._pending or self._finishing)
                    if not self._pending:
                        return
                continue
            try:
                ending = contexts.fresh().run(self._execute, execution)
            # From a signal handler that user code has set, and that ran outside of user code.
            except BaseException as odd:
                ending = execution.ending(Failed(describe(odd), retryable=True))
            if len(self._executions) == 1 and surroundings.may_have_changed():
                surroundings.restore()
            self._end(execution, ending)

    def _execute(self, execution: Execution) -> Ending:
        """Execute a run, with its error handler; return how it ended."""
        enter_context(execution.context)
        outcome = prepare(execution, self._place.tasks)
        if outcome is None:
            value, error = self._settled(execution, _invoke)
            outcome = conclude(execution, value) if error is None else explain(execution, error)
        ending = execution.ending(outcome)
        if calls_on_error(execution, outcome):
            self._call_on_error(self._hand_over(execution, ending))
        return ending

    def _settled(
        self, execution: Execution, call: Callable[[Execution], object]
    ) -> tuple[object, BaseException | None]:
        """Call user code; return what it returned, or what it raised.

        One interrupt may come until the gate is taken, and none after that.
        """
        value: object = None
        error: BaseException | None = None
        over = False
        execution.thread_id = threading.get_ident()
        if execution.slot == 0:
            self._in_main = execution
        try:
            try:
                self._place.ledger.restart_clock(execution.slot)
                execution.started_ns = time.monotonic_ns()
                execution.interruptible = True
                if execution.stop is not None:  # asked to stop while the arguments were decoded
                    raise _error_for(execution)
                value = call(execution)
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
        _, odd = self._settled(handling, _handle)
        if odd is not None:
            warn(f"on_error raised (task {handling.run.name})", odd)


def _invoke(execution: Execution) -> object:
    assert execution.task is not None
    return invoke(execution.task, execution.arguments)


def _handle(handling: Execution) -> None:
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
    """Take the gate after user code, so that no interrupt comes later, and drop one that is pending.

    If an interrupt comes in here, this begins again. Then the gate may be taken already, so that `acquire`
    has a timeout.
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
