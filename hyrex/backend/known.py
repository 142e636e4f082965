"""What is known of a sent task: what a handle shows without asking a broker."""

from uuid import UUID

from hyrex.backend.ids import new_task_id
from hyrex.backend.outgoing import Deduplicated, Outgoing
from hyrex.backend.protocol import Watched
from hyrex.errors import HyrexError
from hyrex.runs import TaskSnapshot
from hyrex.status import TaskStatus

__all__ = ["KnownTask", "acknowledge", "learn", "observe", "outgoing_of", "renew", "supersede"]


class KnownTask:
    """A task as of the last answer of a broker. The functions below change it."""

    __slots__ = ("_id", "_outgoing", "_state", "_status", "arguments_differ", "deduplicated", "task_name")

    def __init__(self, task_id: str, task_name: str) -> None:
        self._id = task_id
        self.task_name = task_name
        self.deduplicated = False
        self.arguments_differ = False
        self._state: TaskSnapshot | None = None
        self._status: TaskStatus | None = None
        self._outgoing: Outgoing | None = None

    def __repr__(self) -> str:
        return f"<task {self.task_name} {self._id}: {self._status or 'not asked yet'}>"

    @property
    def id(self) -> UUID:
        """The task's id; if it was deduplicated, the id of the first task with its key."""
        return UUID(self._id)

    @property
    def status(self) -> TaskStatus | None:
        """The status in the last answer of a broker; None if there was none yet."""
        return self._status

    @property
    def waiting_for(self) -> str:
        """While queued: what it waits for, as text for people, from the last refresh()."""
        return self._state.waiting_for if self._state is not None else ""

    @property
    def is_final(self) -> bool:
        """True if it had ended at the last answer of a broker."""
        return self._state is not None and self._state.status.is_final


def outgoing_of(known: KnownTask) -> Outgoing:
    """The task as it was sent. Raises HyrexError if this handle has not sent it."""
    if known._outgoing is None:
        raise HyrexError(f"{known!r} was not sent by this handle, so it cannot be sent again")
    return known._outgoing


def renew(known: KnownTask) -> None:
    """Give the task a new id, after the broker refused the old one."""
    sent = outgoing_of(known)
    known._outgoing = Outgoing(new_task_id(), sent.spec, sent.payload, sent.origin)
    known._id = known._outgoing.task_id


def acknowledge(known: KnownTask) -> None:
    """Note that a broker has stored the task."""
    if known._status is None:
        options = outgoing_of(known).spec.options
        later = options.delay or options.run_at
        known._status = TaskStatus.SCHEDULED if later else TaskStatus.QUEUED


def supersede(known: KnownTask, first: Deduplicated) -> None:
    """Make this the first task with the idempotency key, which the broker has named."""
    known.deduplicated = known.deduplicated or first.task_id != known._id
    known.arguments_differ = first.arguments_differ
    known._id = first.task_id
    known._status = first.status or known._status
    if first.state is not None:
        observe(known, first.state)


def observe(known: KnownTask, state: TaskSnapshot) -> None:
    """Note the status and runs that a broker returned."""
    known._state = state
    known._status = state.status
    known.task_name = state.name or known.task_name


def learn(known: KnownTask, watched: Watched) -> None:
    """Note what a watch has seen of this task; raise the error if it got one."""
    if known._id in watched.failures:
        raise watched.failures[known._id]
    if known._id in watched.states:
        observe(known, watched.states[known._id])
