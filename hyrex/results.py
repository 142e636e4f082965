"""What result() of a finished task returns or raises."""

from collections.abc import Callable
from typing import TypeVar

from hyrex.errors import ResultUnavailable, TaskFailed, TaskLost, TaskTimedOut, TaskWasCancelled
from hyrex.runs import RunSnapshot, TaskSnapshot
from hyrex.status import TaskStatus

__all__ = ["result_of"]

R = TypeVar("R")


def result_of(state: TaskSnapshot, decode: Callable[[bytes], R]) -> R:
    """The decoded result of a completed task. Raises the subclass of ResultUnavailable for its status."""
    last = state.runs[-1] if state.runs else None
    if state.status is TaskStatus.COMPLETED:
        if state.hidden:
            raise ResultUnavailable(
                f"{state.title} completed, and its result is hidden from this token, which"
                " lacks the scope 'payload'"
            )
        return decode(last.result or b"null" if last is not None else b"null")
    raise _unavailable(state, last)


def _unavailable(state: TaskSnapshot, last: RunSnapshot | None) -> ResultUnavailable:
    title = state.title
    attempts = (
        f"{last.attempt_number + 1} attempt{'s' if last.attempt_number else ''}" if last else "never ran"
    )
    reason = f": {last.reason}" if last is not None and last.reason else ""
    match state.status:
        case TaskStatus.FAILED:
            error = last.error if last is not None else None
            kind, message, traceback = (error.type, error.message, error.traceback) if error else ("", "", "")
            said = str(error) if error else "no error was recorded"
            if state.hidden:
                said = f"{kind} (hidden from this token, which lacks the scope 'payload')"
            return TaskFailed(f"{title}: {said} ({attempts})", kind, message, traceback)
        case TaskStatus.TIMED_OUT:
            return TaskTimedOut(f"{title} exceeded its timeout ({attempts})")
        case TaskStatus.CANCELLED:
            return TaskWasCancelled(f"{title} was cancelled{reason}")
        case _:
            return TaskLost(f"{title} was lost{reason}")
