"""What a running task knows of itself.

A ContextVar: set around user code (and its on_error) by whoever runs it, None anywhere else. Most
tasks never ask, so what is bound may be a way to make the context when somebody does.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from datetime import datetime
from uuid import UUID

__all__ = ["HyrexContext", "bind_context", "get_hyrex_context"]


@dataclass(frozen=True, slots=True)
class HyrexContext:
    """The run that executes now.

    `queued` and `started` are aware times; `attempt_number` counts from 0 and the last attempt
    has `attempt_number == max_retries`.
    """

    task_id: UUID
    task_name: str
    queue: str
    priority: int
    run_number: int
    attempt_number: int
    max_retries: int
    parent_id: UUID | None
    root_id: UUID
    timeout_seconds: float | None
    queued: datetime
    started: datetime
    worker: str
    headers: Mapping[str, str] = field(default_factory=dict)
    """As its sender gave them; trace context travels here."""


Bound = HyrexContext | Callable[[], HyrexContext] | None
_context: ContextVar[Bound] = ContextVar("hyrex_context", default=None)


def get_hyrex_context() -> HyrexContext | None:
    """The context of the run that executes now; None outside a task and in direct calls."""
    bound = _context.get()
    return bound if bound is None or isinstance(bound, HyrexContext) else bound()


@contextmanager
def bind_context(context: Bound) -> Iterator[None]:
    """Make `context`, or what it makes, the current one for the enclosed code."""
    token = _context.set(context)
    try:
        yield
    finally:
        _context.reset(token)
