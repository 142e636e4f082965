"""The handle of a sent task. Attributes never do I/O; methods do."""

import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Generic, TypeVar
from uuid import UUID

from hyrex.backend.known import KnownTask, learn, observe, outgoing_of
from hyrex.backend.outgoing import Outgoing
from hyrex.codec import CODECS, waits
from hyrex.errors import loaded
from hyrex.options import Timeout, checked_wait
from hyrex.other_names import OF_HANDLES, missing
from hyrex.progress import RunProgress
from hyrex.results import result_of
from hyrex.runs import TaskRun, TaskSnapshot, decode_freely, portable_decode
from hyrex.runtime.callsite import warn_if_on_loop
from hyrex.runtime.waiting import awaiting, waiting
from hyrex.status import TaskStatus

if TYPE_CHECKING:
    from hyrex.backend.protocol import Backend

__all__ = ["TaskHandle", "handle_of"]

R = TypeVar("R")


class TaskHandle(KnownTask, Generic[R]):
    """A task by its id. `status` and `task_runs` are as of the last answer of a broker."""

    __slots__ = ("__weakref__", "_decode")

    def __init__(
        self, task_id: UUID | str, task_name: str, *, decode: Callable[[bytes], R] = decode_freely
    ) -> None:
        super().__init__(str(task_id), task_name)
        self._decode = decode

    if not TYPE_CHECKING:  # a checker finds such a name by itself

        def __getattr__(self, name: str) -> object:
            """Called for what is not there: say what another library's name is called here."""
            raise missing(self, name, OF_HANDLES)

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickled with its task if another process can import that; else results are plain JSON there."""
        decode = portable_decode(self._decode)
        outgoing = self._outgoing if decode is self._decode else None
        state = (self.deduplicated, self.arguments_differ, self._state, self._status, outgoing)
        return _handle, (self._id, self.task_name, decode, state)

    def __copy__(self) -> "TaskHandle[R]":
        state = (self.deduplicated, self.arguments_differ, self._state, self._status, self._outgoing)
        return _handle(self._id, self.task_name, self._decode, state)

    def __deepcopy__(self, memo: object) -> "TaskHandle[R]":
        return self.__copy__()

    @property
    def task_runs(self) -> list[TaskRun[R]]:
        """Its runs by run number, the running one included; empty until refresh() or wait()."""
        decode = self._decode
        return [TaskRun(run, decode) for run in self._state.runs] if self._state is not None else []

    @property
    def progress(self) -> RunProgress | None:
        """How far the run that executes now is, by its own word; None if it says nothing, or none runs."""
        runs = self._state.runs if self._state is not None else ()
        return runs[-1].progress if runs else None

    # Methods that ask a broker.

    def refresh(self) -> None:
        """Ask a broker for the task's status and runs."""
        observe(self, _backend().get(self._id))

    async def refresh_async(self) -> None:
        """As refresh(), without blocking the running loop."""
        observe(self, await _backend().get_async(self._id))

    def wait(self, timeout: Timeout = None) -> bool:
        """Wait until it has ended, at most `timeout` (seconds or a timedelta). Return True if it completed.

        Raises TaskNotFound; BrokerUnavailable if no broker answered in all that time (without a timeout: in
        the first HYREX_SEND_TIMEOUT seconds).
        """
        seconds = checked_wait(timeout)
        if not self.is_final:
            warn_if_on_loop("wait")
            with waiting():
                learn(self, _backend().watch([self._id], seconds))
        return self._status is TaskStatus.COMPLETED

    async def wait_async(self, timeout: Timeout = None) -> bool:
        """As wait(), without blocking the running loop or holding a worker's slot."""
        seconds = checked_wait(timeout)
        if not self.is_final:
            async with awaiting():
                learn(self, await _backend().watch_async([self._id], seconds))
        return self._status is TaskStatus.COMPLETED

    def result(self, timeout: Timeout = None) -> R:
        """Wait, then return what it returned, validated by the function's return annotation.

        Raises TaskFailed, TaskTimedOut, TaskCancelled, TaskLost, ResultInvalid; TimeoutError if it has not
        ended in time.
        """
        began = time.monotonic()
        self.wait(timeout)
        return result_of(self._known(began), self._decode)

    async def result_async(self, timeout: Timeout = None) -> R:
        """As result(), without blocking the running loop."""
        began = time.monotonic()
        await self.wait_async(timeout)
        state = self._known(began)
        if CODECS and waits(self._decode):
            return await loaded("asyncio").to_thread(result_of, state, self._decode)  # type: ignore[no-any-return]
        return result_of(state, self._decode)

    def cancel(self, reason: str = "") -> bool:
        """Cancel the task. Return False if it had ended already. After this returns, it never runs again."""
        status = _backend().cancel(self._id, reason)
        if status is None:
            self.refresh()
        return self._cancelled(status)

    async def cancel_async(self, reason: str = "") -> bool:
        """As cancel(), without blocking the running loop."""
        status = await _backend().cancel_async(self._id, reason)
        if status is None:
            await self.refresh_async()
        return self._cancelled(status)

    def _cancelled(self, status: TaskStatus | None) -> bool:
        self._status = status or self._status
        return status is not None

    def resend(self) -> None:
        """Repeat the send under the same id, so that the task is stored only once. Raises as send()."""
        backend = _backend()
        outcomes = backend.store([outgoing_of(self)])
        loaded("hyrex.concluding").conclude(backend, [self], outcomes)

    async def resend_async(self) -> None:
        """As resend(), without blocking the running loop."""
        backend = _backend()
        outcomes = await backend.store_async([outgoing_of(self)])
        loaded("hyrex.concluding").conclude(backend, [self], outcomes)

    def replay(self, payload: Mapping[str, Any] | None = None) -> "TaskHandle[R]":
        """Send a new task like this one, which stays as it is, and return its handle.

        It has this task's name, queue, options and labels, without its idempotency key, start and parent.
        `payload`: other arguments, by name, as JSON values; without it the broker copies this task's. Raises
        TaskNotFound, ArgumentInvalid, PayloadTooLarge, SendRejected, QueueFull, BrokerUnavailable.
        """
        return self._replayed(loaded("hyrex.replaying").begin(self._id, payload))

    async def replay_async(self, payload: Mapping[str, Any] | None = None) -> "TaskHandle[R]":
        """As replay(), without blocking the running loop."""
        return self._replayed(await loaded("hyrex.replaying").begin_async(self._id, payload))

    def dismiss(self) -> bool:
        """Take a task that failed, timed out or was lost off the list of dead letters; nothing else changes.

        Return False if it has not ended so. Raises TaskNotFound, BrokerUnavailable.
        """
        return _backend().dismiss(self._id)

    async def dismiss_async(self) -> bool:
        """As dismiss(), without blocking the running loop."""
        return await _backend().dismiss_async(self._id)

    def complete(
        self, result: Any = None, *, error: str | BaseException | None = None, reason: str = ""
    ) -> bool:
        """End a task that no worker runs (`hy.approval`): with a result, a JSON value that fits its
        annotation, or with an error. `reason`: who or what, for the record.

        Return False if it had ended already. Raises TaskNotFound, NotWaiting, ArgumentInvalid,
        PayloadTooLarge, CallRejected, BrokerUnavailable.
        """
        completing = loaded("hyrex.completing")
        end = completing.checked_end(self._id, result, error, reason, self._decode)
        return bool(completing.begin(end))

    async def complete_async(
        self, result: Any = None, *, error: str | BaseException | None = None, reason: str = ""
    ) -> bool:
        """As complete(), without blocking the running loop."""
        completing = loaded("hyrex.completing")
        end = completing.checked_end(self._id, result, error, reason, self._decode)
        return bool(await completing.begin_async(end))

    def _replayed(self, task_id: str) -> "TaskHandle[R]":
        handle: TaskHandle[R] = TaskHandle(task_id, self.task_name, decode=self._decode)
        handle._status = TaskStatus.QUEUED
        return handle

    def _known(self, began: float) -> TaskSnapshot:
        if not self.is_final or self._state is None:
            waited = time.monotonic() - began
            runs = self._status in (None, TaskStatus.RUNNING)
            told = "" if runs else f"; hyrex task why {self._id} says what it waits for"
            raise TimeoutError(
                f"{self.task_name} {self._id} is {self._status or 'of unknown status'} after "
                f"{round(waited, 3):.3g} s{told}"
            )
        return self._state


def _handle(
    task_id: str, name: str, decode: Callable[[bytes], Any], known: tuple[Any, ...]
) -> TaskHandle[Any]:
    handle: TaskHandle[Any] = TaskHandle(task_id, name, decode=decode)
    handle.deduplicated, handle.arguments_differ, handle._state, handle._status, handle._outgoing = known
    return handle


def handle_of(outgoing: Outgoing) -> TaskHandle[Any]:
    """Make the handle of a task that is about to be sent."""
    spec = outgoing.spec
    handle: TaskHandle[Any] = TaskHandle(outgoing.task_id, spec.config.name, decode=spec.task._decode_result)
    handle._outgoing = outgoing
    return handle


def _backend() -> "Backend":
    backend: Backend = loaded("hyrex.client.process").current_backend()
    return backend
