"""A task to be sent, with all that must stay the same if it is sent again."""

from dataclasses import dataclass
from enum import Enum
from typing import Any

from hyrex.backend.ids import new_task_id
from hyrex.backend.send_spec import SendSpec
from hyrex.context import get_hyrex_context
from hyrex.errors import HyrexError
from hyrex.runs import TaskSnapshot
from hyrex.status import TaskStatus

__all__ = ["Deduplicated", "Outgoing", "Progress", "SendResult", "Untimely", "prepare"]


class Progress(Enum):
    """How far a task has come."""

    WAITING = "it has not left this process"
    UNANSWERED = "it was sent, and no answer came yet"
    STORED = "the broker has stored it"


@dataclass(frozen=True, slots=True)
class Deduplicated:
    """The task was not stored: its idempotency key belongs to an earlier task, which this describes."""

    task_id: str
    status: TaskStatus | None = None
    """None if the broker did not say."""
    arguments_differ: bool = False
    state: TaskSnapshot | None = None
    """With its runs, if it ran where it was sent (an inline test)."""


@dataclass(frozen=True, slots=True)
class Untimely:
    """Refused at its first attempt for the time in its id. It is not stored, so it may get a new id."""

    error: HyrexError


# A TaskSnapshot, if it ran where it was sent (an inline test).
SendResult = Progress | Deduplicated | Untimely | TaskSnapshot | HyrexError


class Outgoing:
    """One task to store. A plain class: a frozen dataclass takes three times as long to make."""

    __slots__ = ("parent_id", "payload", "root_id", "spec", "task_id")

    def __init__(self, task_id: str, spec: SendSpec, payload: bytes, parent_id: str, root_id: str) -> None:
        self.task_id = task_id
        self.spec = spec
        self.payload = payload
        self.parent_id = parent_id
        self.root_id = root_id

    def __reduce__(self) -> tuple[Any, ...]:
        return Outgoing, (self.task_id, self.spec, self.payload, self.parent_id, self.root_id)


def prepare(spec: SendSpec, payload: bytes) -> Outgoing:
    """Make the task of a call: with a new id, and with its parent if a running task sends it."""
    context = get_hyrex_context()
    if context is None:
        return Outgoing(new_task_id(), spec, payload, "", "")
    return Outgoing(new_task_id(), spec, payload, str(context.task_id), str(context.root_id))
