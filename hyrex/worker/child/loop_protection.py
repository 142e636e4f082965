"""Keeps the event loop of a child running, whatever one of its runs does to it.

A SystemExit or KeyboardInterrupt in any asyncio task or callback leaves the loop, and `loop.stop()` ends it:
all other runs on the loop would end too. Here only the run whose code did it fails, and the loop goes on.
"""

import asyncio
import selectors
import sys
from collections.abc import Callable, Coroutine
from contextvars import Context
from pathlib import Path
from types import FrameType
from typing import Any, Final

from hyrex.worker.child.execution import Execution, execution_here
from hyrex.worker.child.forks import is_fork
from hyrex.worker.shared.logs import warn

Fail = Callable[[Execution, BaseException], None]

_CALLBACK: Final = asyncio.Handle._run.__code__  # uvloop has no such frame
_WORKER_FOLDER: Final = str(Path(__file__).parent.parent)  # hyrex/worker


class OwnedTask(asyncio.Task[Any]):
    """An asyncio task that a run has made. Other runs, which see it in `asyncio.all_tasks()`, cannot cancel
    it."""

    def __init__(self, coroutine: Coroutine[Any, Any, Any], **options: Any) -> None:
        self.owner: Execution | None = execution_here()
        super().__init__(coroutine, **options)

    def cancel(self, msg: Any = None) -> bool:
        """As Task.cancel, but refused (False) if another run asks for it."""
        asking = execution_here()
        if asking is None or self.owner is None or asking.token == self.owner.token:
            return super().cancel(msg)
        warn(f"task {asking.terms.name} tried to cancel a part of {self.owner.terms.name}")
        return False


class RunTask(OwnedTask):
    """The asyncio task of a run, or of its error handler."""

    def __init__(
        self,
        coroutine: Coroutine[Any, Any, None],
        loop: asyncio.AbstractEventLoop,
        execution: Execution,
        context: Context,
    ) -> None:
        # Not by loop.create_task(): a run may have set a task factory.
        self.owner = execution
        name = f"hyrex:{execution.terms.name}"
        asyncio.Task.__init__(self, coroutine, loop=loop, name=name, context=context)


class LoopProtection:
    """Runs a loop, and calls `fail` with the run that has tried to end it, and the error for it."""

    def __init__(self, loop: asyncio.AbstractEventLoop, fail: Fail) -> None:
        """Replace the loop's `stop` and, unless the app has set one, its task factory."""
        self._loop = loop
        self._fail = fail
        self.stop_really = loop.stop
        loop.stop = self._stop  # type: ignore[method-assign]
        self._is_opaque = not isinstance(loop, asyncio.BaseEventLoop)
        self._handler = loop.get_exception_handler()
        if loop.get_task_factory() is None:
            loop.set_task_factory(self._owned)
        self._factory = loop.get_task_factory()

    def run_until(self, done: asyncio.Future[None]) -> None:
        """Run the loop until `done`. Raises errors that no run can have caused."""
        while not done.done():
            try:
                self._loop.run_until_complete(done)
            except BaseException as error:
                self._escaped(error)

    def restore(self) -> None:
        """Restore what runs may have replaced. Call it only while no run goes on."""
        if self._loop.get_exception_handler() is not self._handler:
            self._loop.set_exception_handler(self._handler)
        if self._loop.get_task_factory() is not self._factory:
            self._loop.set_task_factory(self._factory)

    def _stop(self) -> None:
        execution = execution_here()
        if execution is None:
            self.stop_really()
            return
        error = RuntimeError("a task must not stop the event loop of its worker")
        self._fail(execution, error)
        raise error

    def _owned(self, loop: asyncio.AbstractEventLoop, coroutine: Any, **options: Any) -> OwnedTask:
        task = OwnedTask(coroutine, loop=loop, **options)
        if self._is_opaque:
            task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[Any]) -> None:
        """Check one asyncio task that ended. For uvloop, which has no Python frames to find the run by, and
        raises only one of several errors of one iteration."""
        error = getattr(
            task, "_exception", None
        )  # exception() would mark it as retrieved: asyncio logs it not
        owner = task.owner if isinstance(task, OwnedTask) else None
        if owner is not None and isinstance(error, SystemExit | KeyboardInterrupt):
            self._fail(owner, error)

    def _escaped(self, error: BaseException) -> None:
        if is_fork():
            raise error
        execution = _execution_that_raised(error)
        if execution is not None:
            self._fail(execution, error)
        elif self._loop.is_closed() or _interrupted_runner(error):
            raise error
        else:
            warn("an error left the event loop; the loop goes on", error)


def _execution_that_raised(error: BaseException) -> Execution | None:
    """The execution in whose context the callback ran that raised this error out of the loop."""
    trace = error.__traceback__
    while trace is not None:
        if trace.tb_frame.f_code is _CALLBACK:
            return _execution_of(trace.tb_frame)
        trace = trace.tb_next
    return None


def execution_running(thread_id: int) -> Execution | None:
    """The execution in whose context the loop's callback runs now. Called from another thread."""
    frame = sys._current_frames().get(thread_id)
    while frame is not None:
        if frame.f_code is _CALLBACK:
            return _execution_of(frame)
        frame = frame.f_back
    return None


def sleeps(thread_id: int) -> bool:
    """Return True if the loop of that thread waits for events. Called from another thread."""
    frame = sys._current_frames().get(thread_id)
    if frame is None:
        return False
    code = frame.f_code
    return code is LoopProtection.run_until.__code__ or code.co_filename == selectors.__file__


def _execution_of(frame: FrameType) -> Execution | None:
    return execution_here(frame.f_locals["self"]._context)


def _interrupted_runner(error: BaseException) -> bool:
    """Return True if the error was raised within the runner's own code, as by a signal handler of the user.

    Then the runner's step is half done, and the child cannot go on.
    """
    trace, around_loop = error.__traceback__, ("run_until", "_escaped")
    while trace is not None:
        code = trace.tb_frame.f_code
        if code.co_filename.startswith(_WORKER_FOLDER) and code.co_name not in around_loop:
            return True
        trace = trace.tb_next
    return False
