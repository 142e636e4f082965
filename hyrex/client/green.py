"""Refuses libraries that replace Python's threads: the client waits in gRPC, which needs real threads."""

import sys
from typing import Final

from hyrex.errors import RuntimeUnsupported

__all__ = ["refuse_green_threads"]

NEEDED: Final = ("threading", "thread", "_thread", "select", "selectors")
ADVICE: Final = (
    "send from a process that is not patched, or patch without them: "
    "gevent.monkey.patch_all(thread=False, select=False)"
)


def refuse_green_threads() -> None:
    """Raise RuntimeUnsupported if threads or selectors are patched: a send would wait for ever."""
    gevent = sys.modules.get("gevent.monkey")
    if gevent is not None and any(map(gevent.is_module_patched, NEEDED)):
        raise RuntimeUnsupported(
            f"gevent has replaced this process's threads, and Hyrex needs real ones: {ADVICE}"
        )
    eventlet = sys.modules.get("eventlet.patcher")
    if eventlet is not None and any(map(eventlet.is_monkey_patched, NEEDED)):
        raise RuntimeUnsupported(
            "eventlet has replaced this process's threads, and Hyrex needs real ones: "
            "send from a process that is not patched"
        )
