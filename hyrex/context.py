"""What a task can learn about the run that executes it.

It is kept in a ContextVar that is set while user code (or its on_error) runs, and is None otherwise. Most
tasks never ask for it, so the variable may hold a function that makes the context when it is asked for.
"""

from collections.abc import Callable, Mapping
from contextvars import Context, ContextVar
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final
from uuid import UUID

from hyrex.progress import RunProgress, checked_progress

__all__ = [
    "HyrexContext",
    "HyrexWorkflowContext",
    "bind_context",
    "bound_in",
    "enter_context",
    "get_hyrex_context",
    "get_hyrex_workflow_context",
    "tell_progress_by",
]

SLOT_HEADER: Final = "hyrex-scheduled-for"


class HyrexWorkflowContext:
    """The workflow of which the run that executes now is a node."""

    __slots__ = ("_arguments", "_read", "id", "name", "node")

    def __init__(
        self, workflow_id: UUID, name: str, node: str, read: Callable[[], Mapping[str, Any]]
    ) -> None:
        self.id = workflow_id
        """That of its own task; `get_task(id)` is its handle."""
        self.name = name
        self.node = node
        """What this node is called in it."""
        self._read = read
        self._arguments: Mapping[str, Any] | None = None

    @property
    def arguments(self) -> Mapping[str, Any]:
        """The arguments that the workflow was sent with, by name, as JSON values."""
        if self._arguments is None:
            self._arguments = self._read()
        return self._arguments

    def __reduce__(self) -> tuple[Any, ...]:
        return _workflow_context, (self.id, self.name, self.node, dict(self.arguments))

    def __repr__(self) -> str:
        return f"<node {self.node} of workflow {self.name} {self.id}>"


def _workflow_context(
    workflow_id: UUID, name: str, node: str, arguments: Mapping[str, Any]
) -> HyrexWorkflowContext:
    return HyrexWorkflowContext(workflow_id, name, node, lambda: arguments)


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
    """The headers that the sender gave."""
    trace_context: bytes = b""
    """The trace that the task belongs to, in 26 bytes: version, trace id, span id and flags. Empty: none."""
    workflow: HyrexWorkflowContext | None = None
    """The workflow of which the task is a node; None if it is none."""

    @property
    def scheduled_for(self) -> datetime | None:
        """The slot of the schedule for which this task was stored, in UTC; None for tasks that were sent."""
        slot = self.headers.get(SLOT_HEADER)
        try:
            return None if slot is None else datetime.fromisoformat(slot).astimezone(UTC)
        except (ValueError, OverflowError):  # a sender's own header of that name
            return None

    def progress(self, done: float, total: float | None = None, text: str = "") -> None:
        """Say how far this run is; whoever looks at the task sees the newest word, some seconds later.

        Never blocks, so call it as often as you like. Raises ValueError or TypeError for a number that is not
        finite or is negative, and for a text of more than 1,024 bytes.
        """
        told = checked_progress(done, total, text)
        if _tell is not None:
            _tell(self, told)


_tell: "Callable[[HyrexContext, RunProgress], None] | None" = None


def tell_progress_by(tell: "Callable[[HyrexContext, RunProgress], None] | None") -> None:
    """Have what runs say of their progress passed on; without it (in tests, inline) nobody hears of it."""
    global _tell
    _tell = tell


Bound = HyrexContext | Callable[[], HyrexContext] | None
_context: ContextVar[Bound] = ContextVar("hyrex_context", default=None)


def get_hyrex_context() -> HyrexContext | None:
    """The context of the run that executes now; None outside a task and in direct calls."""
    bound = _context.get()
    return bound if bound is None or isinstance(bound, HyrexContext) else bound()


def get_hyrex_workflow_context() -> HyrexWorkflowContext | None:
    """The workflow of the run that executes now: `get_hyrex_context().workflow`, and None outside a task."""
    context = get_hyrex_context()
    return None if context is None else context.workflow


enter_context = _context.set
"""Make a context, or what it makes, the current one for the rest of this contextvars context."""


def bound_in(context: Context | None = None) -> Bound:
    """What is bound here (or in `context`): a HyrexContext, a function that makes it, or None."""
    return _context.get() if context is None else context.get(_context)


class bind_context:  # noqa: N801  # reads as a verb where it is used
    """Make `context`, or what it makes, the current one for the enclosed code.

    A class, since a generator (contextlib.contextmanager) would cost a child a tenth of its time.
    """

    __slots__ = ("_bound", "_token")

    def __init__(self, context: Bound) -> None:
        self._bound = context

    def __enter__(self) -> None:
        self._token = _context.set(self._bound)

    def __exit__(self, *error: object) -> None:
        _context.reset(self._token)
