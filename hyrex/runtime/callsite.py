"""Warns of blocking calls on a running event loop, once for each place in the code."""

import asyncio
import sys
import threading
import warnings
from types import FrameType
from typing import Final

__all__ = ["CLIENT_THREAD", "warn_if_on_loop"]

CLIENT_THREAD: Final = "hyrex-client"
"""The name of the client's threads. There is no warning for a finalizer that happens to run in one."""

_warned: set[tuple[str, int]] = set()


def warn_if_on_loop(verb: str) -> None:
    """Warn if the calling thread runs an event loop, which it is about to block."""
    if asyncio._get_running_loop() is None or threading.current_thread().name == CLIENT_THREAD:
        return
    frame: FrameType | None = sys._getframe(1)
    depth = 2  # for warnings.warn, where 1 is this function
    while frame is not None and frame.f_globals.get("__name__", "").partition(".")[0] == "hyrex":
        frame = frame.f_back
        depth += 1
    if frame is None:
        return
    place = (frame.f_code.co_filename, frame.f_lineno)
    if place not in _warned:
        _warned.add(place)
        warnings.warn(
            f"{verb}() blocks the running event loop; await {verb}_async() instead",
            RuntimeWarning,
            stacklevel=depth,
        )
