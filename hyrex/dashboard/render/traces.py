"""The trace that a task was sent in."""

import re
from dataclasses import dataclass
from typing import Final

from hyrex.dashboard.options import TRACE_ID

_TRACEPARENT: Final = re.compile(r"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})", re.ASCII)
_SAMPLED: Final = 0x01
_LINKED: Final = 0x80


@dataclass(frozen=True, slots=True)
class Trace:
    """`linked`: its runs have traces of their own, with a link to this span."""

    traceparent: str
    trace_id: str
    span_id: str
    sampled: bool
    linked: bool


def trace_of(traceparent: str) -> Trace | None:
    """The parts of a traceparent; None where it is empty or none."""
    found = _TRACEPARENT.fullmatch(traceparent)
    if found is None:
        return None
    flags = int(found[4], 16)
    return Trace(traceparent, found[2], found[3], bool(flags & _SAMPLED), bool(flags & _LINKED))


def trace_href(url: str, trace: Trace) -> str:
    """Where the trace is shown; empty where nobody said so."""
    return url.replace(TRACE_ID, trace.trace_id)
