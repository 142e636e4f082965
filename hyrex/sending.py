"""send, in all its forms: prepare, store, and give the handle or say what became of it."""

import logging
from collections.abc import Iterable, Sequence
from typing import Any, TypeVar

from hyrex.backend.outgoing import Deduplicated, Outcome, Progress, Untimely, prepare
from hyrex.backend.protocol import Backend
from hyrex.client.process import current_backend
from hyrex.errors import BrokerUnavailable, HyrexError, SendManyFailed, SubmitUnknown
from hyrex.handle import TaskHandle
from hyrex.runs import TaskState
from hyrex.runtime.callsite import warn_if_on_loop
from hyrex.sendable import Sendable, TaskCall

__all__ = ["repeat", "repeat_async", "send_many", "send_many_async", "send_one", "send_one_async"]

R = TypeVar("R")
log = logging.getLogger("hyrex")


def send_one(target: Sendable[..., R], payload: bytes) -> TaskHandle[R]:
    """Store one task."""
    warn_if_on_loop("send")
    handle = TaskHandle.of(prepare(target, payload))
    _store([handle])
    return handle


async def send_one_async(target: Sendable[..., R], payload: bytes) -> TaskHandle[R]:
    """Store one task."""
    handle = TaskHandle.of(prepare(target, payload))
    await _store_async([handle])
    return handle


def repeat(handle: TaskHandle[Any]) -> None:
    """Store a handle's task again, under the same id: it may be stored already."""
    backend = current_backend()
    _conclude(backend, [handle], backend.store([handle.outgoing]))


async def repeat_async(handle: TaskHandle[Any]) -> None:
    """As repeat()."""
    backend = current_backend()
    _conclude(backend, [handle], await backend.store_async([handle.outgoing]))


def send_many(calls: Iterable[TaskCall[R]]) -> list[TaskHandle[R]]:
    """Store many tasks, `send_many(task.call(...) for ...)`; handles in the order of the calls.

    All calls are validated before any is sent. Raises BrokerUnavailable if none was stored for
    want of a broker, SendManyFailed if only some were acknowledged.
    """
    warn_if_on_loop("send_many")
    handles = [TaskHandle.of(prepare(call.target, call.payload)) for call in _checked(calls)]
    _store(handles)
    return handles


async def send_many_async(calls: Iterable[TaskCall[R]]) -> list[TaskHandle[R]]:
    """As send_many(), without blocking the running loop."""
    handles = [TaskHandle.of(prepare(call.target, call.payload)) for call in _checked(calls)]
    await _store_async(handles)
    return handles


def _store(handles: Sequence[TaskHandle[Any]]) -> None:
    """Store for the first time; what this machine's clock had refused is sent again by the broker's."""
    backend = current_backend()
    outcomes = backend.store([handle.outgoing for handle in handles])
    if late := _renew(handles, outcomes):
        again = backend.store([handles[at].outgoing for at in late])
        outcomes = _put(outcomes, late, again)
    _conclude(backend, handles, outcomes)


async def _store_async(handles: Sequence[TaskHandle[Any]]) -> None:
    backend = current_backend()
    outcomes = await backend.store_async([handle.outgoing for handle in handles])
    if late := _renew(handles, outcomes):
        again = await backend.store_async([handles[at].outgoing for at in late])
        outcomes = _put(outcomes, late, again)
    _conclude(backend, handles, outcomes)


def _renew(handles: Sequence[TaskHandle[Any]], outcomes: Sequence[Outcome]) -> list[int]:
    """Give other ids to those that were refused for the time in theirs; where they stand."""
    late = [at for at, outcome in enumerate(outcomes) if isinstance(outcome, Untimely)]
    for at in late:
        handles[at].renew()
    return late


def _put(outcomes: list[Outcome], at: Sequence[int], again: Sequence[Outcome]) -> list[Outcome]:
    for place, outcome in zip(at, again, strict=True):
        outcomes[place] = outcome
    return outcomes


def _checked(calls: Iterable[TaskCall[R]]) -> Sequence[TaskCall[R]]:
    found = list(calls)
    for call in found:
        if not isinstance(call, TaskCall):
            raise TypeError(f"send_many wants calls, made by task.call(...), got {call!r}")
    return found


def _conclude(backend: Backend, handles: Sequence[TaskHandle[Any]], outcomes: Sequence[Outcome]) -> None:
    """Tell the handles what became of their tasks; raise if not all are acknowledged."""
    failures: dict[int, HyrexError] = {}
    others: list[TaskHandle[Any]] = []
    for at, (handle, outcome) in enumerate(zip(handles, outcomes, strict=True)):
        match outcome:
            case Progress.STORED:
                handle.acknowledged()
            case Deduplicated():
                if outcome.arguments_differ and not handle.arguments_differ:
                    others.append(handle)
                handle.superseded(outcome)
            case TaskState():
                handle.observed(outcome)
            case HyrexError():
                failures[at] = outcome
            case Untimely(error):
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


def _warn_of_other_arguments(handles: Sequence[TaskHandle[Any]]) -> None:
    """One line a call, however many tasks: the first is named, the rest counted."""
    handle, more = handles[0], len(handles) - 1
    log.warning(
        "%s was not stored%s: its idempotency key %r belongs to a task with other arguments. Not stored: %s; "
        "stands: %s (%s). Put what makes two calls different into the key",
        handle.task_name,
        f" (nor {more} more of this call)" if more else "",
        handle.outgoing.target.options.idempotency_key,
        handle.outgoing.task_id,
        handle.id,
        handle.status or "status not told",
    )


def _unanswered(backend: Backend, handle: TaskHandle[Any], outcome: Outcome) -> HyrexError:
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
