"""Replays tasks: sends new ones like earlier ones, for instance after a fix."""

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any
from uuid import UUID

from hyrex.arguments.jsonvalues import is_json
from hyrex.arguments.limits import checked_payload
from hyrex.backend.ids import given_id, new_task_id
from hyrex.backend.protocol import Replay
from hyrex.errors import ArgumentInvalid, loaded
from hyrex.runtime.callsite import warn_if_on_loop

if TYPE_CHECKING:
    from hyrex.backend.protocol import Backend

__all__ = ["begin", "begin_async"]


def begin(task_id: UUID | str, payload: Mapping[str, Any] | None) -> str:
    """Store a task like this one; its id. `payload`: its arguments by name, None for the earlier ones."""
    warn_if_on_loop("replay")
    replay = _checked(task_id, payload)
    _backend().replay(replay)
    return replay.new_id


async def begin_async(task_id: UUID | str, payload: Mapping[str, Any] | None) -> str:
    """As begin(), without blocking the running loop."""
    replay = _checked(task_id, payload)
    await _backend().replay_async(replay)
    return replay.new_id


def _checked(task_id: UUID | str, payload: Mapping[str, Any] | None) -> Replay:
    encoded = None if payload is None else _encoded(str(task_id), payload)
    return Replay(str(given_id(task_id)), new_task_id(), encoded)


def _encoded(task_id: str, payload: Mapping[str, Any]) -> bytes:
    if not isinstance(payload, Mapping):
        raise TypeError(f"the payload of a replay is a dict of its arguments by name, got {payload!r:.200}")
    arguments = dict(payload)
    if not is_json(arguments):
        raise ArgumentInvalid(
            f"the payload of a replay holds JSON values only, as its arguments by name; got {payload!r:.200}"
        )
    text = json.dumps(arguments, ensure_ascii=False, separators=(",", ":"))
    return checked_payload(f"the replay of {task_id}", text.encode())


def _backend() -> "Backend":
    backend: Backend = loaded("hyrex.client.process").current_backend()
    return backend
