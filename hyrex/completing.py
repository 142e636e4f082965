"""Ends tasks that no worker runs, for instance with a person's word."""

import json
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from hyrex.arguments.jsonvalues import is_json
from hyrex.arguments.limits import checked_payload
from hyrex.backend.ids import given_id
from hyrex.backend.protocol import OutsideAnswer
from hyrex.errors import ArgumentInvalid, ResultInvalid, loaded
from hyrex.runtime.callsite import warn_if_on_loop

if TYPE_CHECKING:
    from hyrex.backend.protocol import Backend

__all__ = ["REFUSED", "begin", "begin_async", "checked_end"]

REFUSED: Final = "Refused"
"""The type of an error that is given as a text."""


def begin(end: OutsideAnswer) -> bool:
    """End a task. Return False if it had ended already."""
    warn_if_on_loop("complete")
    return _backend().complete(end)


async def begin_async(end: OutsideAnswer) -> bool:
    """As begin(), without blocking the running loop."""
    return await _backend().complete_async(end)


def checked_end(
    task_id: str,
    result: Any,
    error: str | BaseException | None,
    reason: str,
    decode: Callable[[bytes], Any],
) -> OutsideAnswer:
    """How a task is to end. `decode`: what reads its result, and says whether it can. Raises
    ArgumentInvalid."""
    known_id = str(given_id(task_id))
    if error is None:
        return OutsideAnswer(known_id, _encoded(known_id, result, decode), reason=reason)
    if result is not None:
        raise ArgumentInvalid("complete() takes a result or an error, not both")
    if isinstance(error, BaseException):
        return OutsideAnswer(known_id, b"", type(error).__name__, str(error), reason)
    return OutsideAnswer(known_id, b"", REFUSED, error, reason)


def _encoded(task_id: str, result: Any, decode: Callable[[bytes], Any]) -> bytes:
    if not is_json(result):
        raise ArgumentInvalid(f"the result of {task_id} must be a JSON value, got {result!r:.200}")
    text = json.dumps(result, ensure_ascii=False, separators=(",", ":")).encode()
    try:
        decode(text)
    except ResultInvalid as error:
        raise ArgumentInvalid(f"{task_id} cannot end with {result!r:.200}: {error}") from error
    return checked_payload(f"the result of {task_id}", text)


def _backend() -> "Backend":
    backend: Backend = loaded("hyrex.client.process").current_backend()
    return backend
