"""A task and its runs, as a broker described them.

`TaskSnapshot` and `RunSnapshot` are as they were read; `TaskRun` is what users see, with the result decoded.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Generic, TypeVar

from hyrex.progress import RunProgress
from hyrex.runtime.portable import is_importable
from hyrex.status import TaskStatus

__all__ = ["RunSnapshot", "TaskError", "TaskRun", "TaskSnapshot", "decode_freely", "portable_decode"]

R_co = TypeVar("R_co", covariant=True)


@dataclass(frozen=True, slots=True)
class TaskError:
    """What a run raised, or where it was when its timeout had passed."""

    type: str
    message: str
    traceback: str

    def __str__(self) -> str:
        return f"{self.type}: {self.message}" if self.message else self.type


@dataclass(frozen=True, slots=True)
class RunSnapshot:
    """One run, with its result still encoded."""

    run_number: int
    attempt_number: int
    status: TaskStatus
    result: bytes | None
    error: TaskError | None
    reason: str
    started: datetime | None
    finished: datetime | None
    worker: str
    progress: RunProgress | None = None
    cause: str | None = None


@dataclass(frozen=True, slots=True)
class TaskSnapshot:
    """A task with its runs, ordered by run number."""

    task_id: str
    name: str
    queue: str
    status: TaskStatus
    runs: tuple[RunSnapshot, ...]
    waiting_for: str = ""
    cancel_requested: bool = False
    hidden: bool = False
    """The token lacks the scope `payload`, so results and errors were left out."""
    node: str = ""
    """What it is called in its workflow; empty if it is of none."""

    @property
    def title(self) -> str:
        """What errors call it."""
        node = f" (node {self.node!r})" if self.node else ""
        return f"{self.name} {self.task_id}{node}"


class TaskRun(Generic[R_co]):
    """One execution of a task: `run_number, attempt_number, status, result, error, started, ...`."""

    __slots__ = ("_decode", "_state")

    def __init__(self, state: RunSnapshot, decode: Callable[[bytes], R_co]) -> None:
        self._state = state
        self._decode = decode

    @property
    def run_number(self) -> int:
        """The number of this run; all runs of a task are counted, from 0."""
        return self._state.run_number

    @property
    def attempt_number(self) -> int:
        """The number of this attempt, from 0; only a failed or timed-out run makes the next one higher."""
        return self._state.attempt_number

    @property
    def status(self) -> TaskStatus:
        """RUNNING, or how it ended."""
        return self._state.status

    @property
    def result(self) -> R_co | None:
        """The returned value; None unless completed. Raises ResultInvalid if the annotation forbids it."""
        return None if self._state.result is None else self._decode(self._state.result)

    @property
    def error(self) -> TaskError | None:
        """What it raised; None if it raised nothing."""
        return self._state.error

    @property
    def reason(self) -> str:
        """Why it was lost, cancelled or released, in words."""
        return self._state.reason

    @property
    def cause(self) -> str | None:
        """Why it was cancelled: "requested" or "purged"; None unless it was. Later brokers may know more."""
        return self._state.cause

    @property
    def started(self) -> datetime | None:
        """When it began; None if it never did."""
        return self._state.started

    @property
    def finished(self) -> datetime | None:
        """When its end was recorded; None while it runs."""
        return self._state.finished

    @property
    def worker(self) -> str:
        """Name of the worker that ran it."""
        return self._state.worker

    @property
    def progress(self) -> RunProgress | None:
        """How far it is, by its own word (`get_hyrex_context().progress(...)`); None once it has ended."""
        return self._state.progress

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickled with its task if another process can import that; else its result is plain JSON there."""
        return TaskRun, (self._state, portable_decode(self._decode))

    def __copy__(self) -> "TaskRun[R_co]":
        return self

    def __deepcopy__(self, memo: object) -> "TaskRun[R_co]":
        return self

    def __eq__(self, other: Any) -> bool:
        return isinstance(other, TaskRun) and self._state == other._state

    def __hash__(self) -> int:
        return hash(self._state)

    def __repr__(self) -> str:
        return f"<run {self.run_number} (attempt {self.attempt_number}): {self.status}>"


def decode_freely(result: bytes) -> Any:
    """The value of a stored result, as plain JSON, for a task whose function is not known here.

    One that a codec has encoded is returned as it is stored: {"hyrex.codec": names, "data": base64}.
    """
    return json.loads(result) if result else None


def portable_decode(decode: Callable[[bytes], Any]) -> Callable[[bytes], Any]:
    """`decode`; decode_freely if it is a method of a task that another process cannot import."""
    task = getattr(decode, "__self__", None)
    return decode if task is None or is_importable(task) else decode_freely
