"""Runs async tasks, many at a time, on one event loop in the main thread."""

import asyncio
import inspect
import signal
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from contextvars import copy_context
from heapq import heappop, heappush
from typing import Any, Final

from hyrex.codec import CODECS
from hyrex.context import enter_context
from hyrex.errors import HyrexError, TaskCancelled, TaskTimeout
from hyrex.middleware import entered_by
from hyrex.task import invoke
from hyrex.worker.child.around_runs import RunWithin
from hyrex.worker.child.execution import (
    Execution,
    call_on_error,
    calls_on_error,
    conclude,
    conclude_off_loop,
    decode_payload,
    execution_here,
    explain,
    prepare,
)
from hyrex.worker.child.forks import end_if_fork
from hyrex.worker.child.interrupt import INTERRUPT_SIGNAL, interrupt, raise_in_main_thread_by
from hyrex.worker.child.loop_protection import LoopProtection, RunTask, execution_running, sleeps
from hyrex.worker.child.runner import Runner, Workplace
from hyrex.worker.child.surroundings import Surroundings
from hyrex.worker.shared.child_options import ON_ERROR_NS
from hyrex.worker.shared.description import describe
from hyrex.worker.shared.logs import warn
from hyrex.worker.shared.outcome import Failed, Outcome, StopCause

_BLOCKED_NS: Final = 1_000_000_000
_CANNOT_WAKE_NS: Final = (
    5_000_000_000  # a loop that still sleeps that long after a wake-up cannot be woken any more
)
_ON_ERROR_S: Final = ON_ERROR_NS / 1e9
_OVERTIME_S: Final = (
    1.0  # an error handler may take so long to end after its cancel; then nobody waits for it
)


class AsyncRunner(Runner):
    """Executes up to `slots` coroutine functions at once."""

    def __init__(self, workplace: Workplace) -> None:
        """Nothing runs before `run` is called."""
        super().__init__(workplace)
        self._loop = asyncio.new_event_loop()
        self._free: list[int] = []  # free slots of the ledger below `_cells`; the lowest is taken first
        self._cells = 0
        self._lent = 0  # slots of runs that wait for other tasks
        self._tasks: dict[asyncio.Task[Any], Execution] = {}
        self._done = self._loop.create_future()
        self._waking = False
        self._probed_ns = 0  # when the watchdog last scheduled `_answer` on the loop
        self._answered_ns = 0
        self._warned = False
        self._thread_id = threading.get_ident()

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        """The child's event loop; an async lifespan runs on it too."""
        return self._loop

    def run(self) -> None:
        """Execute runs until told to finish."""
        if self.surround():
            self._outcome = self._outcome_within  # type: ignore[method-assign]
        raise_in_main_thread_by(self._error_for_main_thread)
        self._surroundings = Surroundings(signal.SIGINT, signal.SIGTERM, INTERRUPT_SIGNAL)
        self._protection = LoopProtection(self._loop, self._fail)
        self._loop.call_soon(self._start_pending)
        self._protection.run_until(self._done)

    def disown(self) -> None:
        """As in Runner: stop the loop in the fork as soon as its run awaits something."""
        self._protection.stop_really()

    def check(self, now_ns: int) -> None:
        """Find out whether the event loop is blocked, and by which run."""
        if not self._executions:
            self._probed_ns = self._answered_ns = 0
        elif self._answered_ns >= self._probed_ns:
            self._probed_ns, self._warned = now_ns, False
            self._loop.call_soon_threadsafe(self._answer)
        elif now_ns - self._probed_ns > _BLOCKED_NS:
            self._act_on_blocked_loop(now_ns)

    def _answer(self) -> None:
        self._answered_ns = time.monotonic_ns()

    def _act_on_blocked_loop(self, now_ns: int) -> None:
        execution = execution_running(self._thread_id) or self._current()
        if execution is None:
            if now_ns - self._probed_ns > _CANNOT_WAKE_NS and sleeps(self._thread_id):
                self._break_off(RuntimeError("the event loop cannot be woken any more"))
            return
        if not self._warned:
            self._warned = True
            seconds = (now_ns - self._probed_ns) / 1e9
            warn(
                f"task {execution.run.name} has blocked the event loop for {seconds:.1f} s; "
                "use `await`, or make it a sync task"
            )
        if execution.stop is None and execution.overdue(now_ns):
            execution.ask_to_stop(StopCause.TIMEOUT)
            self._ask(execution)  # a cancel too: the code that blocks may be another part of the same run
        if execution.stop is not None and execution.interruptible and not execution.interrupted:
            execution.interrupted = True
            interrupt(execution.thread_id, TaskTimeout)

    def _current(self) -> Execution | None:
        task = asyncio.current_task(self._loop)
        return self._tasks.get(task) if task is not None else None

    def _error_for_main_thread(self) -> type[BaseException] | None:
        execution = execution_here()
        if execution is None or not execution.interruptible or execution.stop is None:
            return None
        return TaskTimeout if execution.stop is StopCause.TIMEOUT else TaskCancelled

    def lent(self, change: int) -> None:
        """As in Runner: a run that waits for other tasks holds no slot, so another one begins."""
        self._loop.call_soon_threadsafe(self._change_lent, change)

    def _change_lent(self, change: int) -> None:
        self._lent += change
        self._start_pending()

    def _wake(self) -> None:
        if not self._waking:
            self._waking = True
            self._loop.call_soon_threadsafe(self._start_pending)

    def _start_pending(self) -> None:
        try:
            self._start()
        except BaseException as error:
            self._break_off(error)

    def _start(self) -> None:
        self._waking = False
        while len(self._tasks) - self._lent < self._place.slots:
            if not self._free:
                heappush(self._free, self._cells)
                self._cells += 1
            execution = self._begin(self._free[0])
            if execution is None:
                break
            heappop(self._free)
            task = RunTask(self._run(execution), self._loop, execution, self._place.contexts.fresh())
            self._tasks[task] = execution
            task.add_done_callback(self._ended)
        if self._finishing and not self._tasks and not self._pending and not self._done.done():
            self._done.set_result(None)

    def _ended(self, task: asyncio.Task[Any]) -> None:
        try:
            self._conclude(task)
        except BaseException as error:
            self._break_off(error)

    def _conclude(self, task: asyncio.Task[Any]) -> None:
        execution = self._tasks.pop(task)
        if execution.token in self._executions:  # cancelled before its first step, by nobody's order
            error = asyncio.CancelledError() if task.cancelled() else task.exception()
            info = describe(error or asyncio.CancelledError())
            self._end(execution, execution.ending(Failed(info, retryable=True)))
        heappush(self._free, execution.slot)
        if not self._executions:
            self._protection.restore()
            if self._surroundings.may_have_changed():
                self._surroundings.restore()
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

    def _fail(self, execution: Execution, error: BaseException) -> None:
        """Have a run fail with the error that some part of it caused in the event loop."""
        if execution.fault is None:
            execution.fault = error
            if self._current() is not execution:
                self._cancel(execution)

    def _time_out(self, execution: Execution) -> None:
        if self._note_stop(execution, StopCause.TIMEOUT):
            self._cancel(execution)

    async def _run(self, execution: Execution) -> None:
        enter_context(execution)
        outcome = await self._outcome(execution)
        ending = execution.ending(outcome)
        if calls_on_error(execution, outcome):
            await self._call_on_error(self._hand_over(execution, ending))
        self._end(execution, ending)

    async def _outcome(self, execution: Execution) -> Outcome:
        outcome = await self._prepared(execution)
        if outcome is not None:
            return outcome
        value, raised = await self._settled(execution, invoke, execution.task, execution.arguments)
        if execution.fault is not None:
            return explain(execution, execution.fault)
        if raised is not None:
            return explain(execution, raised)
        return await conclude_off_loop(execution, value) if CODECS else conclude(execution, value)

    async def _prepared(self, execution: Execution) -> Outcome | None:
        """As prepare(). What a codec has put elsewhere is fetched in a thread first."""
        tasks = self._place.tasks
        encoded = execution.terms.codec or execution.queued.block.nodes
        task = tasks.get(execution.terms.name) if encoded else None
        codecs = None if task is None else task._stack.codecs
        if task is not None and codecs is not None and codecs.blocking:
            try:
                await asyncio.to_thread(decode_payload, execution, task)
            except HyrexError:
                pass  # prepare() tries it again, and says why not
        return prepare(execution, tasks)

    async def _outcome_within(self, execution: Execution) -> Outcome:
        """As _outcome, within the task's middleware."""
        hooks = self._around.get(execution.terms.name)
        if hooks is None:
            return await AsyncRunner._outcome(self, execution)
        refused = await self._prepared(execution)
        if refused is not None and execution.error is None:
            return refused
        run = RunWithin(hooks, execution, refused)
        _, raised = await self._settled(execution, _call_within, run, None)
        return run.ended(raised if execution.fault is None else execution.fault)

    async def _settled(
        self, execution: Execution, call: Callable[[Any, Any], Any], subject: object, given: object
    ) -> tuple[object, BaseException | None]:
        """Await user code; return what it returned, or what it raised."""
        raised, value = None, None
        try:
            value = await self._call(execution, call, subject, given)
        except BaseException as error:
            execution.interruptible = False
            raised = error
        end_if_fork(raised)
        return value, raised

    async def _call(
        self, execution: Execution, call: Callable[[Any, Any], Any], subject: object, given: object
    ) -> object:
        timeout_ns, timer = execution.terms.timeout_ns, None
        execution.thread_id = self._thread_id
        self._place.ledger.restart_clock(execution.slot)
        execution.started_ns = time.monotonic_ns()
        if timeout_ns:
            timer = self._loop.call_later(timeout_ns / 1e9, self._time_out, execution)
        execution.interruptible = True
        try:
            if execution.stop is not None:  # asked to stop before it began
                raise TaskCancelled()
            return await call(subject, given)
        finally:
            execution.interruptible = False
            if timer is not None:
                timer.cancel()

    async def _call_on_error(self, handling: Execution) -> None:
        """Call the task's error handler in an asyncio task of its own, for as long as it may take."""
        task = RunTask(self._handle(handling), self._loop, handling, copy_context())
        self._tasks[task] = handling
        if not await _outlast(task, _ON_ERROR_S):
            self._time_out(handling)
            if not await _outlast(task, _OVERTIME_S):
                warn(f"on_error of {handling.run.name} has not ended in time; no longer waiting for it")
        del self._tasks[task]

    async def _handle(self, handling: Execution) -> None:
        enter_context(handling)
        handling.thread_id, handling.started_ns = self._thread_id, time.monotonic_ns()
        handling.interruptible = True
        try:
            await self._handle_within(handling)
        except BaseException as odd:
            handling.interruptible = False
            warn(f"on_error raised (task {handling.run.name})", odd)
        handling.interruptible = False

    async def _handle_within(self, handling: Execution) -> None:
        hooks = self._around.get(handling.terms.name)
        with ExitStack() as around:
            for enter in hooks.on_error if hooks is not None and handling.info is not None else ():
                around.enter_context(entered_by(enter, handling.info))
            told = call_on_error(handling)
            if inspect.isawaitable(told):
                await told


def _call_within(run: RunWithin, _: object) -> Any:
    return run.call_async()


async def _outlast(task: asyncio.Task[None], timeout_s: float) -> bool:
    """Wait for a task, even while this one is cancelled. Return True if it has ended in time."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + timeout_s
    while not task.done() and (left_s := deadline - loop.time()) > 0:
        try:
            await asyncio.wait({task}, timeout=left_s)
        except asyncio.CancelledError:
            continue
    return task.done()
