"""Waits for many tasks at once, with as few watches as possible."""

from collections.abc import Iterable
from typing import Any

from hyrex.backend.known import KnownTask, learn
from hyrex.backend.protocol import Watched
from hyrex.client.process import current_backend
from hyrex.options import Timeout, checked_wait
from hyrex.runtime.callsite import warn_if_on_loop
from hyrex.runtime.waiting import awaiting, waiting
from hyrex.sent import SentTaskHandle
from hyrex.status import TaskStatus

__all__ = ["wait_all", "wait_all_async"]


def wait_all(handles: Iterable[SentTaskHandle], timeout: Timeout = None) -> bool:
    """Wait until all have ended, at most `timeout` (seconds or a timedelta). Return True if all completed."""
    handles = list(handles)
    pending, seconds = _pending(handles), checked_wait(timeout)
    if pending:
        warn_if_on_loop("wait_all")
        with waiting():
            _learn(handles, current_backend().watch(pending, seconds))
    return _all_completed(handles)


async def wait_all_async(handles: Iterable[SentTaskHandle], timeout: Timeout = None) -> bool:
    """As wait_all(), without blocking the running loop or holding a worker's slot."""
    handles = list(handles)
    pending, seconds = _pending(handles), checked_wait(timeout)
    if pending:
        async with awaiting():
            _learn(handles, await current_backend().watch_async(pending, seconds))
    return _all_completed(handles)


def _pending(handles: Iterable[SentTaskHandle]) -> list[str]:
    return [str(handle.id) for handle in map(_checked, handles) if not handle.is_final]


def _checked(handle: SentTaskHandle) -> SentTaskHandle:
    if not isinstance(handle, KnownTask):
        raise TypeError(f"wait_all wants handles, as send() returns them, got {handle!r:.200}")
    return handle


def _learn(handles: Iterable[Any], watched: Watched) -> None:
    for handle in handles:
        learn(handle, watched)


def _all_completed(handles: Iterable[SentTaskHandle]) -> bool:
    return all(handle.status is TaskStatus.COMPLETED for handle in handles)
