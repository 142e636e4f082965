"""All forms of send: prepare the tasks, store them, and return their handles or raise what went wrong."""

from collections.abc import Iterable, Sequence
from functools import partial
from typing import Any, TypeVar

from hyrex.backend.around_sends import hooks_around, store_within, store_within_async
from hyrex.backend.encoding import encoded, encoded_many, off_loop
from hyrex.backend.known import acknowledge, outgoing_of, renew
from hyrex.backend.outgoing import OutgoingBatch, Progress, SendResult, Untimely, prepare, prepare_many
from hyrex.backend.protocol import Backend
from hyrex.backend.send_spec import SendSpec
from hyrex.backend.tracing import tracer_here
from hyrex.call import TaskCall
from hyrex.client.process import current_backend
from hyrex.codec import CODECS
from hyrex.concluding import conclude
from hyrex.handle import TaskHandle, handle_of
from hyrex.middleware import CHANGES
from hyrex.runtime.callsite import warn_if_on_loop
from hyrex.sent_handles import SentHandles

__all__ = ["send_many", "send_many_async", "send_one", "send_one_async"]

R = TypeVar("R")


def send_one(spec: SendSpec, payload: bytes) -> TaskHandle[Any]:
    """Store one task."""
    warn_if_on_loop("send")
    if CODECS:
        payload = encoded(spec, payload)
    task = prepare(spec, payload)
    handle = handle_of(task)
    tracer = tracer_here()
    hooks = None if tracer is None and not CHANGES else hooks_around((spec,), tracer)
    if hooks is None:
        _store(handle)
    else:
        store_within(hooks, task, lambda: _store(handle))
    return handle


async def send_one_async(spec: SendSpec, payload: bytes) -> TaskHandle[Any]:
    """Store one task."""
    if CODECS:
        payload = await off_loop([spec], lambda: encoded(spec, payload))
    task = prepare(spec, payload)
    handle = handle_of(task)
    tracer = tracer_here()
    hooks = None if tracer is None and not CHANGES else hooks_around((spec,), tracer)
    if hooks is None:
        await _store_async(handle)
    else:
        await store_within_async(hooks, task, lambda: _store_async(handle))
    return handle


def send_many(calls: Iterable[TaskCall[R]]) -> Sequence[TaskHandle[R]]:
    """Store many tasks, `send_many(task.call(...) for ...)`; return their handles in the order of the calls.

    All calls are validated before any is sent. Raises BrokerUnavailable if no broker was reachable and none
    is stored, SendManyFailed if only some were acknowledged.
    """
    warn_if_on_loop("send_many")
    handles: SentHandles[R] = SentHandles(_prepared(*_gathered(calls)))
    hooks = hooks_around(handles.sent.specs, tracer_here()) if handles else None
    if hooks is None:
        _store_many(handles)
    else:
        store_within(hooks, handles.sent, lambda: _store_many(handles))
    return handles


def _store_many(handles: SentHandles[Any]) -> None:
    backend = current_backend()
    outcomes = backend.store(handles.sent)
    if late := _untimely(outcomes):
        handles.sent = handles.sent.renewed(late)
        outcomes = _put(outcomes, late, backend.store(handles.sent.at(late)))
    _conclude_many(backend, handles, outcomes)


async def send_many_async(calls: Iterable[TaskCall[R]]) -> Sequence[TaskHandle[R]]:
    """As send_many(), without blocking the running loop."""
    specs, payloads = _gathered(calls)
    prepared = partial(_prepared, specs, payloads)
    handles: SentHandles[R] = SentHandles(await off_loop(specs, prepared) if CODECS else prepared())
    hooks = hooks_around(handles.sent.specs, tracer_here()) if handles else None
    if hooks is None:
        await _store_many_async(handles)
    else:
        await store_within_async(hooks, handles.sent, lambda: _store_many_async(handles))
    return handles


async def _store_many_async(handles: SentHandles[Any]) -> None:
    backend = current_backend()
    outcomes = await backend.store_async(handles.sent)
    if late := _untimely(outcomes):
        handles.sent = handles.sent.renewed(late)
        outcomes = _put(outcomes, late, await backend.store_async(handles.sent.at(late)))
    _conclude_many(backend, handles, outcomes)


def _conclude_many(backend: Backend, handles: SentHandles[Any], outcomes: Sequence[SendResult]) -> None:
    if outcomes.count(Progress.STORED) == len(outcomes):
        handles.are_stored = True
    else:
        conclude(backend, list(handles), outcomes)


def _gathered(calls: Iterable[TaskCall[Any]]) -> tuple[list[SendSpec], list[bytes]]:
    """Specs (one, if all share it) and payloads of calls; nothing else is kept: there may be a million."""
    specs: list[SendSpec] = []
    payloads: list[bytes] = []
    for call in calls:
        if not isinstance(call, TaskCall):
            raise TypeError(f"send_many wants calls, made by task.call(...), got {call!r}")
        specs.append(call._spec)
        payloads.append(call._payload)
    shared = bool(specs) and specs.count(specs[0]) == len(specs)
    return specs[:1] if shared else specs, payloads


def _prepared(specs: list[SendSpec], payloads: list[bytes]) -> OutgoingBatch:
    if CODECS:
        payloads = encoded_many(specs, payloads)
    return prepare_many(specs, payloads)


def _store(handle: TaskHandle[Any]) -> None:
    """Store a task for the first time.

    A broker refuses an id whose time is far from its own clock. Such a task gets an id by the broker's clock,
    and is sent again.
    """
    backend = current_backend()
    outcomes = backend.store([outgoing_of(handle)])
    if isinstance(outcomes[0], Untimely):
        renew(handle)
        outcomes = backend.store([outgoing_of(handle)])
    _conclude(backend, handle, outcomes)


async def _store_async(handle: TaskHandle[Any]) -> None:
    """As _store(), for a caller on an event loop."""
    backend = current_backend()
    outcomes = await backend.store_async([outgoing_of(handle)])
    if isinstance(outcomes[0], Untimely):
        renew(handle)
        outcomes = await backend.store_async([outgoing_of(handle)])
    _conclude(backend, handle, outcomes)


def _conclude(backend: Backend, handle: TaskHandle[Any], outcomes: Sequence[SendResult]) -> None:
    if outcomes[0] is Progress.STORED:
        acknowledge(handle)
    else:
        conclude(backend, [handle], outcomes)


def _untimely(outcomes: Sequence[SendResult]) -> list[int]:
    """Where tasks were refused because of the time in their ids."""
    if outcomes.count(Progress.STORED) == len(outcomes):
        return []
    return [at for at, outcome in enumerate(outcomes) if isinstance(outcome, Untimely)]


def _put(outcomes: list[SendResult], at: Sequence[int], again: Sequence[SendResult]) -> list[SendResult]:
    for place, outcome in zip(at, again, strict=True):
        outcomes[place] = outcome
    return outcomes
