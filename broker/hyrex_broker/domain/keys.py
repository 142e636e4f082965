"""Idempotency keys: what is said of the task that holds one to whoever sends another under it."""

from dataclasses import dataclass

from hyrex_broker.domain.model import SubmitAnswer, TaskId
from hyrex_broker.domain.states import TaskState


@dataclass(frozen=True, slots=True)
class KeyHolder:
    """The stored task that an idempotency key belongs to."""

    task_id: TaskId
    state: TaskState
    payload_differs: bool
    """From that of the task that was refused. Payloads alone: the options are the sender's business
    (a delay or a trace's header differs from one send to the next), the arguments are the work."""


@dataclass(slots=True)
class KeyHit(SubmitAnswer):
    """The answer for a task that was not stored, since another one holds its key."""

    holder: KeyHolder
