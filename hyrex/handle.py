"""The handle of a sent task. Attributes never do I/O; methods do."""

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Generic, TypeVar
from uuid import UUID

from hyrex.backend.ids import given_id
from hyrex.backend.known import KnownTask, acknowledge, learn, observe, outgoing_of, supersede
from hyrex.backend.outgoing import Deduplicated, Outgoing, Postponed, Progress, SendResult, Untimely
from hyrex.codec import CODECS, waits
from hyrex.errors import BrokerUnavailable, HyrexError, SendManyFailed, SubmitUnknown, loaded
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

__all__ = [
    "TaskHandle",
    "complete",
    "complete_async",
    "conclude",
    "dismiss",
    "dismiss_async",
    "get_task",
    "get_task_async",
    "handle_of",
    "replay",
    "replay_async",
]

R = TypeVar("R")
log = logging.getLogger("hyrex")


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
        conclude(backend, [self], backend.store([outgoing_of(self)]))

    async def resend_async(self) -> None:
        """As resend(), without blocking the running loop."""
        backend = _backend()
        conclude(backend, [self], await backend.store_async([outgoing_of(self)]))

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
            told = f"; hyrex task why {self._id} says for what" if self._status == TaskStatus.BLOCKED else ""
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


def get_task(task_id: UUID | str) -> TaskHandle[Any]:
    """The handle of any task, with its present status. Raises TaskNotFound."""
    handle: TaskHandle[Any] = TaskHandle(given_id(task_id), "")
    handle.refresh()
    return handle


async def get_task_async(task_id: UUID | str) -> TaskHandle[Any]:
    """As get_task(), without blocking the running loop."""
    handle: TaskHandle[Any] = TaskHandle(given_id(task_id), "")
    await handle.refresh_async()
    return handle


def complete(
    task_id: UUID | str, result: Any = None, *, error: str | BaseException | None = None, reason: str = ""
) -> bool:
    """End any task that no worker runs: see TaskHandle.complete()."""
    waiting: TaskHandle[Any] = TaskHandle(given_id(task_id), "")
    return waiting.complete(result, error=error, reason=reason)


async def complete_async(
    task_id: UUID | str, result: Any = None, *, error: str | BaseException | None = None, reason: str = ""
) -> bool:
    """As complete(), without blocking the running loop."""
    waiting: TaskHandle[Any] = TaskHandle(given_id(task_id), "")
    return await waiting.complete_async(result, error=error, reason=reason)


def dismiss(task_id: UUID | str) -> bool:
    """Take any task off the list of dead letters: see TaskHandle.dismiss()."""
    dead: TaskHandle[Any] = TaskHandle(given_id(task_id), "")
    return dead.dismiss()


async def dismiss_async(task_id: UUID | str) -> bool:
    """As dismiss(), without blocking the running loop."""
    dead: TaskHandle[Any] = TaskHandle(given_id(task_id), "")
    return await dead.dismiss_async()


def replay(task_id: UUID | str, payload: Mapping[str, Any] | None = None) -> TaskHandle[Any]:
    """Send a new task like any earlier one, and return its handle: see TaskHandle.replay()."""
    earlier: TaskHandle[Any] = TaskHandle(given_id(task_id), "")
    return earlier.replay(payload)


async def replay_async(task_id: UUID | str, payload: Mapping[str, Any] | None = None) -> TaskHandle[Any]:
    """As replay(), without blocking the running loop."""
    earlier: TaskHandle[Any] = TaskHandle(given_id(task_id), "")
    return await earlier.replay_async(payload)


def _backend() -> "Backend":
    backend: Backend = loaded("hyrex.client.process").current_backend()
    return backend


def conclude(backend: "Backend", handles: Sequence[TaskHandle[Any]], outcomes: Sequence[SendResult]) -> None:
    """Note in the handles what became of their tasks; raise if not all are acknowledged."""
    failures: dict[int, HyrexError] = {}
    others: list[TaskHandle[Any]] = []
    for at, (handle, outcome) in enumerate(zip(handles, outcomes, strict=True)):
        match outcome:
            case Progress.STORED:
                acknowledge(handle)
            case Deduplicated():
                # A debounce key gathers calls on purpose, whatever their arguments are.
                if outcome.arguments_differ and not handle.arguments_differ and _has_key(handle):
                    others.append(handle)
                supersede(handle, outcome)
            case TaskSnapshot():
                observe(handle, outcome)
            case HyrexError():
                failures[at] = outcome
            case Postponed(error, may_be_stored=True):
                failures[at] = _may_be_stored(handle, error)
            case Untimely(error) | Postponed(error):
                failures[at] = error
            case _:
                failures[at] = _unanswered(backend, handle, outcome)
    if others:
        _warn_of_other_arguments(others)
    if not failures:
        return
    if len(handles) == 1:
        raise failures[0]
    if len(failures) == len(handles) and all(isinstance(e, BrokerUnavailable) for e in failures.values()):
        raise failures[0]
    raise SendManyFailed(list(handles), failures)


def _has_key(handle: TaskHandle[Any]) -> bool:
    return outgoing_of(handle).spec.options.idempotency_key is not None


def _warn_of_other_arguments(handles: Sequence[TaskHandle[Any]]) -> None:
    """Warn once for a call, however many tasks it has: name the first, and count the others."""
    handle, more = handles[0], len(handles) - 1
    sent = outgoing_of(handle)
    log.warning(
        "%s was not stored%s: its idempotency key %r belongs to a task with other arguments. Not stored: %s; "
        "stands: %s (%s). Put what makes two calls different into the key",
        handle.task_name,
        f" (nor {more} more of this call)" if more else "",
        sent.spec.options.idempotency_key,
        sent.task_id,
        handle.id,
        handle.status or "status not told",
    )


def _may_be_stored(handle: TaskHandle[Any], refusal: HyrexError) -> SubmitUnknown:
    return SubmitUnknown(
        f"an earlier attempt to store {handle.task_name} {handle.id} had no answer, and then there was "
        f"no room ({refusal}): it may be stored or not; handle.resend() repeats it under the same id",
        handle,
    )


def _unanswered(backend: "Backend", handle: TaskHandle[Any], outcome: SendResult) -> HyrexError:
    if outcome is Progress.WAITING:
        advice = "It was tried again until HYREX_SEND_TIMEOUT was over."
        if backend.is_silent:
            advice = "Start one with `hyrex dev`, or set HYREX_BROKER_URL."
        return BrokerUnavailable(f"{backend.silence}. {advice}", handle)
    return SubmitUnknown(
        f"{backend.silence} for {handle.task_name} {handle.id}: it may be stored or not; "
        "handle.resend() repeats it under the same id",
        handle,
    )
