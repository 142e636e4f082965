"""From where a task is sent: the running task that is its parent, and the trace that it belongs to.

A trace context has 26 bytes: version, trace id (16), span id (8) and flags, as in W3C's traceparent; none is
empty. A broker stores it and hands it to the worker, and nothing else depends on it.
"""

from collections.abc import Callable
from typing import Final, NamedTuple

from hyrex.context import get_hyrex_context

__all__ = ["NOWHERE", "TRACE_BYTES", "Origin", "origin_here", "trace_by"]

TRACE_BYTES: Final = 26


class Origin(NamedTuple):
    """The parent and the first task of its tree, and a trace context. Empty: none."""

    parent_id: str = ""
    root_id: str = ""
    trace_context: bytes = b""


NOWHERE: Final = Origin()
_trace: Callable[[], bytes] | None = None


def trace_by(ask: Callable[[], bytes] | None) -> None:
    """Have a tracer say to which trace a send belongs. None: to that of the running task, as at first."""
    global _trace
    _trace = ask


def origin_here() -> Origin:
    """The origin of what is sent now."""
    context = get_hyrex_context()
    if context is None:
        return NOWHERE if _trace is None else Origin(trace_context=_trace())
    trace_context = context.trace_context if _trace is None else _trace()
    return Origin(str(context.task_id), str(context.root_id), trace_context)
