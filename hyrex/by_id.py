"""Acts on tasks of which only the id is known: each function makes a handle and calls its method."""

from collections.abc import Mapping
from typing import Any
from uuid import UUID

from hyrex.backend.ids import given_id
from hyrex.handle import TaskHandle

__all__ = [
    "complete",
    "complete_async",
    "dismiss",
    "dismiss_async",
    "get_task",
    "get_task_async",
    "replay",
    "replay_async",
]


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
