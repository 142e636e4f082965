"""Every error a user of the SDK can meet.

    HyrexError
    ├── DefinitionError            the code declares something impossible
    │   ├── DuplicateTask          two functions under one task name
    │   └── WorkflowInvalid        a workflow that cannot run: a circle, a lacking argument (a ValueError)
    ├── SendError                  send() did not end with an acknowledged task
    │   ├── ArgumentInvalid        the arguments do not fit the hints (a ValueError); nothing was sent
    │   ├── PayloadTooLarge        the arguments are over the limit (a ValueError); nothing was sent
    │   ├── SendRejected           the broker refused the task, see reason; nothing was stored
    │   │   ├── QueueFull          its queue had no room within the send timeout, see queue and limit
    │   │   └── KeyBusy            its concurrency key had its maximum and it was not to wait, see holder
    │   ├── SubmitUnknown          an attempt had no answer: stored or not; handle.resend() repeats it
    │   ├── OutboxError            task.on(connection) could not enqueue
    │   │   ├── UnknownConnection  it takes no connection of this kind (a TypeError)
    │   │   ├── NotInTransaction   the connection commits each statement by itself
    │   │   └── OutboxUnavailable  the database has no Hyrex, or does not let this role enqueue
    │   └── SendManyFailed         some of many were not acknowledged, see failures
    ├── BrokerUnavailable          no broker answered; of a send: nothing was stored
    ├── NotWaiting                 complete() of a task that waits for no call from outside
    ├── CallRejected               the broker refused a call, see code and reason
    │   ├── TaskNotFound           no task has this id
    │   └── TokenInvalid           HYREX_TOKEN is missing or wrong
    ├── ResultUnavailable          result() has no result to return
    │   ├── TaskFailed             its last run raised; carries type, message, remote traceback
    │   ├── TaskTimedOut           its last run exceeded the timeout
    │   ├── TaskLost               its worker was lost more often than the broker redelivers
    │   ├── TaskWasCancelled       it was cancelled (also a TaskCancelled)
    │   └── ResultInvalid          it completed, but the result does not fit the return annotation
    ├── ResultNotSerializable      a task returned what cannot be stored; the run is failed, not retried
    ├── RuntimeUnsupported         gevent or eventlet, a fork with gRPC in use, a worker's import of the app
    ├── PayloadUnavailable         a codec cannot encode or decode now, or not here: a key, the store
    ├── PayloadUnreadable          a codec can never decode it: changed, deleted, or too large
    ├── WouldDeadlock              wait() inside a task, and no slot is left to run what it waits for
    ├── NonRetryable               raise it in a task: the run fails and is not retried
    └── RetryAfter                 raise it in a task: the run fails and is retried after that delay

    BaseException                  (so that `except Exception` in user code does not swallow them)
    ├── TaskTimeout                raised inside a run that exceeded its timeout
    └── TaskCancelled              raised inside a run that was cancelled
        └── TaskWasCancelled       raised by result() of a cancelled task; an Exception as well

This module imports nothing else of the package but the check of a delay.
"""

import sys
from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from types import ModuleType
from uuid import UUID

from hyrex.options import checked_seconds
from hyrex.runtime.loading import ImportInterrupted, load
from hyrex.runtime.portable import PortableError
from hyrex.sent import SentTaskHandle

__all__ = [
    "ArgumentInvalid",
    "BrokerUnavailable",
    "CallRejected",
    "DefinitionError",
    "DuplicateTask",
    "HyrexError",
    "KeyBusy",
    "NonRetryable",
    "NotInTransaction",
    "NotWaiting",
    "OutboxError",
    "OutboxUnavailable",
    "PayloadTooLarge",
    "PayloadUnavailable",
    "PayloadUnreadable",
    "QueueFull",
    "ResultInvalid",
    "ResultNotSerializable",
    "ResultUnavailable",
    "RetryAfter",
    "RuntimeUnsupported",
    "SendError",
    "SendManyFailed",
    "SendRejected",
    "SubmitUnknown",
    "TaskCancelled",
    "TaskFailed",
    "TaskLost",
    "TaskNotFound",
    "TaskTimedOut",
    "TaskTimeout",
    "TaskWasCancelled",
    "TokenInvalid",
    "UnknownConnection",
    "WorkflowInvalid",
    "WouldDeadlock",
]


class HyrexError(PortableError, Exception):
    """Root of the SDK's errors."""


class DefinitionError(HyrexError):
    """The code declares something impossible."""


class DuplicateTask(DefinitionError):
    """Two functions under one task name; `places` says where each is."""

    def __init__(self, name: str, first: str, second: str) -> None:
        super().__init__(
            f"task {name!r} is defined twice: {first} and {second}. Give one of them another name= "
        )
        self.name = name
        self.places = (first, second)


class WorkflowInvalid(DefinitionError, ValueError):
    """A workflow's body makes what cannot run. The text names workflow and node, and what to write."""


class SendError(HyrexError):
    """A send did not end with an acknowledged task."""


class ArgumentInvalid(SendError, ValueError):
    """Arguments that do not fit the task's hints."""


class PayloadTooLarge(SendError, ValueError):
    """Arguments over the limit of one task."""

    def __init__(self, task_name: str, size_bytes: int, limit_bytes: int) -> None:
        super().__init__(
            f"arguments of {task_name} take {size_bytes:,} bytes, the limit is {limit_bytes:,}; "
            "store large content elsewhere and send its address"
        )
        self.size_bytes = size_bytes
        self.limit_bytes = limit_bytes


class SendRejected(SendError):
    """The broker refused the task; nothing was stored. `reason` is one of hyrex.v1.ErrorReason; with
    HYREX_CELLS also SPANS_CELLS, which the sender says by itself."""

    def __init__(self, message: str, reason: str = "", metadata: Mapping[str, str] | None = None) -> None:
        super().__init__(message)
        self.reason = reason
        self.metadata = dict(metadata or {})


class OutboxError(SendError):
    """`task.on(connection)` could not enqueue the task."""


class UnknownConnection(OutboxError, TypeError):
    """A connection of a kind that `task.on` does not take, or to another database than Postgres."""


class NotInTransaction(OutboxError):
    """The connection commits each statement by itself; nothing was enqueued."""


class OutboxUnavailable(OutboxError):
    """The connection's database has no Hyrex, or does not let its role enqueue."""


class QueueFull(SendRejected):
    """As many tasks wait in its queue as may, and there was no room within the send timeout."""

    @property
    def queue(self) -> str:
        """The queue's name."""
        return self.metadata.get("queue", "")

    @property
    def limit(self) -> int:
        """How many tasks may wait in it."""
        return int(self.metadata.get("limit", 0))


class KeyBusy(SendRejected):
    """As many tasks of its concurrency key run as may, and on_full is "refuse"; nothing was stored."""

    @property
    def key(self) -> str:
        """The concurrency key."""
        return self.metadata.get("key", "")

    @property
    def holder(self) -> UUID | None:
        """The id of a task that holds the key; None if it has ended since."""
        holder = self.metadata.get("holder")
        return UUID(holder) if holder else None


class SubmitUnknown(SendError):
    """An attempt had no answer: the task may be stored or not. `handle.resend()` repeats it under its id."""

    def __init__(self, message: str, handle: SentTaskHandle) -> None:
        super().__init__(message)
        self.handle = handle


class SendManyFailed(SendError):
    """Some of many tasks were not acknowledged.

    `handles` are those of all tasks, in order. `failures` maps the positions of tasks that were not
    acknowledged to their errors.
    """

    def __init__(self, handles: Sequence[SentTaskHandle], failures: "dict[int, HyrexError]") -> None:
        position, first = next(iter(failures.items()))
        super().__init__(
            f"{len(failures)} of {len(handles)} tasks were not acknowledged; "
            f"the first is number {position}: {type(first).__name__}: {first}"
        )
        self.handles = list(handles)
        self.failures = failures


class BrokerUnavailable(HyrexError):
    """No broker answered. When a send raises it, nothing was stored and `handle` may be resent."""

    def __init__(self, message: str, handle: SentTaskHandle | None = None) -> None:
        super().__init__(message)
        self.handle = handle


class CallRejected(HyrexError):
    """The broker refused a call. `code` is the gRPC status name, `reason` a hyrex.v1.ErrorReason."""

    def __init__(
        self, message: str, code: str = "", reason: str = "", metadata: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(message)
        self.code = code
        self.reason = reason
        self.metadata = dict(metadata or {})


class NotWaiting(HyrexError):
    """The task waits for no call from outside: a worker runs it, or what it waits for first has not ended."""


class TaskNotFound(CallRejected):
    """No task has this id."""


class TokenInvalid(CallRejected):
    """HYREX_TOKEN is missing, or the broker refuses it."""


class ResultUnavailable(HyrexError):
    """result() has no result to return."""


class TaskFailed(ResultUnavailable):
    """The last run raised `type`: `message`; `traceback` is the remote one."""

    def __init__(self, text: str, error_type: str, message: str, traceback: str) -> None:
        super().__init__(text)
        self.type = error_type
        self.message = message
        self.traceback = traceback
        if traceback:
            self.add_note(f"Remote traceback:\n{traceback}")


class TaskTimedOut(ResultUnavailable):
    """The last run exceeded the task's timeout."""


class TaskLost(ResultUnavailable):
    """The task's worker was lost, more often than the broker redelivers."""


class ResultInvalid(ResultUnavailable):
    """The task completed with a result that does not fit the return annotation."""


class PayloadUnavailable(HyrexError):
    """A codec cannot encode or decode it now, or not in this process: another one may, or a later attempt."""


class PayloadUnreadable(HyrexError):
    """A codec can never decode it: it was changed, deleted, or is larger than allowed."""


class ResultNotSerializable(HyrexError):
    """A task returned what cannot be stored."""


class WouldDeadlock(HyrexError):
    """A wait would keep the last slot that could run the task that is waited for."""


class RuntimeUnsupported(HyrexError):
    """A send would wait for ever here: a library has replaced the threads, a fork found gRPC in use, or the
    interpreter takes itself apart."""


def refuse_at_the_end(is_finalizing: Callable[[], bool] = sys.is_finalizing) -> None:
    """Raise RuntimeUnsupported where the interpreter takes itself apart: no thread runs then."""
    if is_finalizing():
        raise RuntimeUnsupported(
            "the interpreter ends, and no thread runs any more (a `__del__`, most likely): "
            "send earlier, or in a function that atexit calls"
        )


def loaded(name: str) -> ModuleType:
    """Return the module; import it if this is its first use. Raises: RuntimeUnsupported."""
    refuse_at_the_end()
    try:
        return load(name)
    except ImportInterrupted:
        raise RuntimeUnsupported(
            "this send interrupts an import in its own thread (a signal handler, most likely) and needs what "
            f"is imported there: send later, or import {name} before signal handlers are set"
        ) from None


class NonRetryable(HyrexError):
    """Raise it in a task to fail the run without a retry."""


class RetryAfter(HyrexError):
    """Raise it in a task to fail the run and say when the next attempt may begin."""

    def __init__(self, delay: float | timedelta, message: str = "") -> None:
        self.seconds = checked_seconds("RetryAfter", delay)
        super().__init__(message or f"retry after {self.seconds:g} s")


class TaskTimeout(PortableError):
    """Raised inside a run that exceeded its timeout."""


class TaskCancelled(PortableError):
    """Raised inside a run that was cancelled."""


class TaskWasCancelled(TaskCancelled, ResultUnavailable):
    """Raised by result() of a cancelled task. Can be caught as TaskCancelled and as an Exception."""
