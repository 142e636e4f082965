"""What the answers to a send mean for its handles, and which errors they are."""

import logging
from collections.abc import Sequence
from typing import Any

from hyrex.address import HOW_TO_REACH_ONE
from hyrex.backend.known import acknowledge, observe, outgoing_of, supersede
from hyrex.backend.outgoing import Deduplicated, Postponed, Progress, SendResult, Untimely
from hyrex.backend.protocol import Backend
from hyrex.errors import BrokerUnavailable, HyrexError, SendManyFailed, SubmitUnknown
from hyrex.handle import TaskHandle
from hyrex.runs import TaskSnapshot

__all__ = ["conclude"]

log = logging.getLogger("hyrex")


def conclude(backend: Backend, handles: Sequence[TaskHandle[Any]], outcomes: Sequence[SendResult]) -> None:
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


def _unanswered(backend: Backend, handle: TaskHandle[Any], outcome: SendResult) -> HyrexError:
    if outcome is Progress.WAITING:
        advice = "It was tried again until HYREX_SEND_TIMEOUT was over."
        if backend.is_silent:
            advice = HOW_TO_REACH_ONE
        return BrokerUnavailable(f"{backend.silence}. {advice}", handle)
    return SubmitUnknown(
        f"{backend.silence} for {handle.task_name} {handle.id}: it may be stored or not; "
        "handle.resend() repeats it under the same id",
        handle,
    )
