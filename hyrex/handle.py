"""A sent task in the hands of its sender. Attributes never do I/O; methods do."""

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Generic, TypeVar
from uuid import UUID

from hyrex.backend.ids import new_task_id
from hyrex.backend.outgoing import Deduplicated, Outgoing
from hyrex.errors import HyrexError
from hyrex.options import Timeout, checked_wait
from hyrex.results import decode_freely, result_of
from hyrex.runs import TaskRun, TaskState
from hyrex.runtime.callsite import warn_if_on_loop
from hyrex.runtime.loading import load
from hyrex.runtime.waiting import awaiting, waiting
from hyrex.status import TaskStatus

if TYPE_CHECKING:
    from hyrex.backend.protocol import Backend, Watched
    from hyrex.task import HyrexTask

__all__ = ["TaskHandle", "get_task", "get_task_async"]

R = TypeVar("R")


class TaskHandle(Generic[R]):
    """A task by its id. `status` and `task_runs` are what the last answer of a broker said."""

    __slots__ = (
        "__weakref__",
        "_id",
        "_outgoing",
        "_state",
        "_status",
        "_task",
        "arguments_differ",
        "deduplicated",
        "task_name",
    )

    def __init__(
        self, task_id: UUID | str, task_name: str, *, task: "HyrexTask[..., R] | None" = None
    ) -> None:
        self._id = str(task_id)
        self.task_name = task_name
        self.deduplicated = False
        self.arguments_differ = False
        self._task = task
        self._state: TaskState | None = None
        self._status: TaskStatus | None = None
        self._outgoing: Outgoing | None = None

    @classmethod
    def of(cls, outgoing: Outgoing) -> "TaskHandle[Any]":
        """The handle of a task that is about to be sent."""
        handle = cls(outgoing.task_id, outgoing.target.config.name, task=outgoing.target.task)
        handle._outgoing = outgoing
        return handle

    def __reduce__(self) -> tuple[Any, ...]:
        """With its task where another process can import that; else results are plain JSON values there."""
        from hyrex.task import is_importable

        known = self._task is None or is_importable(self._task)
        task, outgoing = (self._task, self._outgoing) if known else (None, None)
        state = (self.deduplicated, self.arguments_differ, self._state, self._status, outgoing)
        return _handle, (self._id, self.task_name, task, state)

    def __copy__(self) -> "TaskHandle[R]":
        state = (self.deduplicated, self.arguments_differ, self._state, self._status, self._outgoing)
        return _handle(self._id, self.task_name, self._task, state)

    def __deepcopy__(self, memo: object) -> "TaskHandle[R]":
        return self.__copy__()

    def __repr__(self) -> str:
        return f"<task {self.task_name} {self._id}: {self._status or 'not asked yet'}>"

    # What is known

    @property
    def id(self) -> UUID:
        """The task's id; where deduplicated, the id of the first task with its key."""
        return UUID(self._id)

    @property
    def status(self) -> TaskStatus | None:
        """As last heard; None if no broker has said anything yet."""
        return self._status

    @property
    def task_runs(self) -> list[TaskRun[R]]:
        """Its runs by run number, the running one included; empty until refresh() or wait()."""
        decode = self._decode
        return [TaskRun(run, decode) for run in self._state.runs] if self._state is not None else []

    @property
    def waiting_for(self) -> str:
        """While queued: what it waits for, in words, as last heard by refresh()."""
        return self._state.waiting_for if self._state is not None else ""

    @property
    def _decode(self) -> Callable[[bytes], R]:
        return decode_freely if self._task is None else self._task.decode_result

    @property
    def outgoing(self) -> Outgoing:
        """The task as it was sent; only its sender has it."""
        if self._outgoing is None:
            raise HyrexError(f"{self!r} was not sent by this handle, so it cannot be sent again")
        return self._outgoing

    # What is learnt

    def acknowledged(self) -> None:
        """A broker has stored it."""
        if self._status is None:
            options = self.outgoing.target.options
            later = options.delay or options.run_at
            self._status = TaskStatus.SCHEDULED if later else TaskStatus.QUEUED

    def superseded(self, first: Deduplicated) -> None:
        """A broker names the first task with its idempotency key: the handle is that one's now."""
        self.deduplicated = self.deduplicated or first.task_id != self._id
        self.arguments_differ = first.arguments_differ
        self._id = first.task_id
        self._status = first.status or self._status
        if first.state is not None:
            self.observed(first.state)

    def renew(self) -> None:
        """Take another id: nothing bears the one it has."""
        sent = self.outgoing
        self._outgoing = Outgoing(new_task_id(), sent.target, sent.payload, sent.parent_id, sent.root_id)
        self._id = self._outgoing.task_id

    def observed(self, state: TaskState) -> None:
        """A broker said how it stands."""
        self._state = state
        self._status = state.status
        self.task_name = state.name or self.task_name

    # What asks a broker

    def refresh(self) -> None:
        """Ask how it stands."""
        self.observed(_backend().get(self._id))

    async def refresh_async(self) -> None:
        """Ask how it stands."""
        self.observed(await _backend().get_async(self._id))

    def wait(self, timeout: Timeout = None) -> bool:
        """Wait until it has ended, at most `timeout` (seconds or a timedelta); whether it completed.

        Raises TaskNotFound; BrokerUnavailable if no broker was there in all that time (without a
        timeout: in the first HYREX_SEND_TIMEOUT seconds).
        """
        seconds = checked_wait(timeout)
        if not self.is_final:
            warn_if_on_loop("wait")
            with waiting():
                self.learn(_backend().watch([self._id], seconds))
        return self._status is TaskStatus.COMPLETED

    async def wait_async(self, timeout: Timeout = None) -> bool:
        """As wait(), without blocking the running loop or holding a worker's slot."""
        seconds = checked_wait(timeout)
        if not self.is_final:
            async with awaiting():
                self.learn(await _backend().watch_async([self._id], seconds))
        return self._status is TaskStatus.COMPLETED

    def result(self, timeout: Timeout = None) -> R:
        """Wait, then return what it returned, validated by the function's return annotation.

        Raises TaskFailed, TaskTimedOut, TaskCancelled, TaskLost, ResultInvalid; TimeoutError when
        time is up.
        """
        began = time.monotonic()
        self.wait(timeout)
        return result_of(self._known(began), self._decode)

    async def result_async(self, timeout: Timeout = None) -> R:
        """As result(), without blocking the running loop."""
        began = time.monotonic()
        await self.wait_async(timeout)
        return result_of(self._known(began), self._decode)

    def cancel(self, reason: str = "") -> bool:
        """Ask for it to end; False if it had ended already. Once this returns it never runs again."""
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
        """Repeat the send under the same id: stored once, however often. Raises what send() raises."""
        load("hyrex.sending").repeat(self)

    async def resend_async(self) -> None:
        """As resend(), without blocking the running loop."""
        await load("hyrex.sending").repeat_async(self)

    @property
    def is_final(self) -> bool:
        """Whether it has ended, as last heard."""
        return self._state is not None and self._state.status.is_final

    def learn(self, watched: "Watched") -> None:
        """A watch is over: take what it says of this task, or raise it."""
        if self._id in watched.failures:
            raise watched.failures[self._id]
        if self._id in watched.states:
            self.observed(watched.states[self._id])

    def _known(self, began: float) -> TaskState:
        if not self.is_final or self._state is None:
            waited = time.monotonic() - began
            raise TimeoutError(
                f"{self.task_name} {self._id} is {self._status or 'not heard of'} after {waited:.3g} s"
            )
        return self._state


def _handle(
    task_id: str, name: str, task: "HyrexTask[..., Any] | None", known: tuple[Any, ...]
) -> TaskHandle[Any]:
    handle: TaskHandle[Any] = TaskHandle(task_id, name, task=task)
    handle.deduplicated, handle.arguments_differ, handle._state, handle._status, handle._outgoing = known
    return handle


def get_task(task_id: UUID | str) -> TaskHandle[Any]:
    """The handle of any task, as it stands now; raises TaskNotFound."""
    handle: TaskHandle[Any] = TaskHandle(UUID(str(task_id)), "")
    handle.refresh()
    return handle


async def get_task_async(task_id: UUID | str) -> TaskHandle[Any]:
    """As get_task(), without blocking the running loop."""
    handle: TaskHandle[Any] = TaskHandle(UUID(str(task_id)), "")
    await handle.refresh_async()
    return handle


def _backend() -> "Backend":
    backend: Backend = load("hyrex.client.process").current_backend()
    return backend
