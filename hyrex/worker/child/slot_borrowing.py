"""The child's part of slot lending: asks for permission before a run waits for other tasks.

A run has one slot, however many of its threads and coroutines wait. The first of them asks, those that begin
to wait meanwhile share the answer, and the last one that goes on gives the slot back.
"""

import asyncio
import itertools
import threading
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import Future
from contextlib import asynccontextmanager, contextmanager
from typing import Final

from hyrex.context import get_hyrex_context
from hyrex.errors import TaskCancelled, TaskTimeout, WouldDeadlock
from hyrex.worker.child.execution import Execution
from hyrex.worker.child.forks import is_fork
from hyrex.worker.child.parent_socket import ParentSocket
from hyrex.worker.child.runner import Runner
from hyrex.worker.shared.child_messages import Resumed, WaitAnswer, Waiting

_ON_LOOP: Final = (
    "wait() and result() would block the event loop that the async tasks of this process run on, perhaps the "
    "one waited for too; use `await handle.wait_async()` or `await handle.result_async()`"
)


class _Loan:
    """One run's slot that is lent or asked for, with those of its threads and coroutines that wait."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.waiting: set[object] = set()
        self.granted = False
        self.refusal: Future[str] = Future()  # "" where it was granted


class Waits:
    """Context managers around each wait for tasks."""

    def __init__(self, socket: ParentSocket, runner: Runner, *, loop_thread: int | None) -> None:
        """`loop_thread` is the thread of the event loop, in a child that runs async tasks."""
        self._socket = socket
        self._runner = runner
        self._loop_thread = loop_thread
        self._numbers = itertools.count(1)
        self._lock = threading.Lock()
        self._by_task: dict[str, _Loan] = {}
        self._by_number: dict[int, _Loan] = {}

    @contextmanager
    def around(self) -> Iterator[None]:
        """Lend this run's slot while a thread blocks. Raises: WouldDeadlock."""
        execution = self._waiting_run()
        if execution is None:
            yield
            return
        if threading.get_ident() == self._loop_thread:
            raise WouldDeadlock(_ON_LOOP)
        me, task_id = object(), execution.run.task_id
        try:
            _raise_if_refused(self._enter(task_id, me).refusal.result())
            yield
        finally:
            try:
                self._leave(task_id, me)
            except (TaskTimeout, TaskCancelled):
                self._leave(task_id, me)  # an interrupt came in there; it comes only once in a run
                raise

    @asynccontextmanager
    async def around_await(self) -> AsyncIterator[None]:
        """Lend this run's slot while a coroutine awaits. Raises: WouldDeadlock."""
        execution = self._waiting_run()
        if execution is None:
            yield
            return
        me, task_id = object(), execution.run.task_id
        try:
            refusal = self._enter(task_id, me).refusal
            if not refusal.done():
                await asyncio.wait([asyncio.wrap_future(refusal)])
            _raise_if_refused(refusal.result())
            yield
        finally:
            self._leave(task_id, me)

    def answer(self, message: WaitAnswer) -> None:
        """Take in the answer; called by the reader thread."""
        with self._lock:
            loan = self._by_number.get(message.request)
            if loan is None:
                return
            if not message.refusal:
                loan.granted = True
                self._runner.lent(1)
        loan.refusal.set_result(message.refusal)

    def _waiting_run(self) -> Execution | None:
        """The run whose slot is to be lent; None if there is none."""
        if is_fork():
            return None
        executions = self._runner.executions()
        context = get_hyrex_context()
        if context is not None:
            task_id = str(context.task_id)
            return next((one for one in executions if one.run.task_id == task_id), None)
        # A thread that no run is known to have started. If a run waits for it, it is most likely the first.
        return executions[0] if executions and self._loop_thread is None else None

    def _enter(self, task_id: str, me: object) -> _Loan:
        with self._lock:
            loan = self._by_task.get(task_id)
            if loan is None:
                loan = self._by_task[task_id] = _Loan(next(self._numbers))
                self._by_number[loan.number] = loan
                self._socket.send(Waiting(loan.number))
            loan.waiting.add(me)
        return loan

    def _leave(self, task_id: str, me: object) -> None:
        """Note that `me` goes on. Safe to repeat, and to call after an `_enter` that was interrupted."""
        with self._lock:
            loan = self._by_task.get(task_id)
            if loan is None:
                return
            loan.waiting.discard(me)
            if loan.waiting:
                return
            self._by_number.pop(loan.number, None)
            if (
                loan.granted or not loan.refusal.done()
            ):  # not done: the run was stopped before the answer came
                self._socket.send(Resumed(loan.number))
            if loan.granted:
                loan.granted = False
                self._runner.lent(-1)
            del self._by_task[task_id]


def _raise_if_refused(refusal: str) -> None:
    if refusal:
        raise WouldDeadlock(refusal)
