"""Idempotency keys: the answer for a task whose key belongs to an earlier task."""

from dataclasses import dataclass

from hyrex_broker.domain.model import SubmitAnswer, TaskId
from hyrex_broker.domain.states import TaskState


@dataclass(frozen=True, slots=True)
class KeyHolder:
    """The stored task that an idempotency key belongs to."""

    task_id: TaskId
    state: TaskState
    payload_differs: bool
    """True if the refused task has another payload. Options are not compared, since a delay or a trace header
    may differ from one send of the same work to the next."""


@dataclass(slots=True)
class KeyHit(SubmitAnswer):
    """The answer for a task that was not stored, because its key belongs to another one."""

    holder: KeyHolder
