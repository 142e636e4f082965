"""Keys of tasks: what decides their lane, and the answer for one whose idempotency key belongs to another."""

from dataclasses import dataclass
from typing import NamedTuple

from hyrex_broker.domain.model import SubmitAnswer, TaskId
from hyrex_broker.domain.states import TaskState


class KeyedName(NamedTuple):
    """What decides the lane of a task."""

    queue: str
    task: str
    concurrency_key: str | None = None
    fair_key: str | None = None


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
