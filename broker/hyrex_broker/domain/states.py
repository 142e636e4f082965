"""The states of a task, and the table of every legal move between them.

No column stores a state: it follows from the live table that has the task's row, or, without such a row, from
the outcome of its highest run. The model in the tests (tests/state) makes its moves by this table, and a test
holds the diagrams in the docs to it.
"""

from collections.abc import Mapping
from enum import IntEnum, StrEnum
from types import MappingProxyType
from typing import Final, assert_never

from hyrex_broker.domain.model import CancelCause, Outcome


class TaskState(IntEnum):
    """The state of a task. Numbers equal those of hyrex.v1.TaskStatus."""

    QUEUED = 1
    """Moved out by ASSIGN, CANCEL."""
    SCHEDULED = 2
    """Moved out by DUE, CANCEL."""
    RETRYING = 3
    """Moved out by DUE, CANCEL."""
    RUNNING = 4
    """Moved out by what removes the lease: a report, the sweeper, the end of overdue runs."""
    COMPLETED = 5
    """Final, as all below: moved out by REOPEN only."""
    FAILED = 6
    TIMED_OUT = 7
    CANCELLED = 8
    LOST = 9
    BLOCKED = 10
    """Not final. Moved out by ADMIT, CANCEL; a node also by DELAY, SKIP, FAIL, and what no worker runs by
    COMPLETE, FAIL, STOP."""

    @property
    def final(self) -> bool:
        """Return True if the task has ended."""
        return self in _FINAL


_FINAL: Final = frozenset(
    {TaskState.COMPLETED, TaskState.FAILED, TaskState.TIMED_OUT, TaskState.CANCELLED, TaskState.LOST}
)


class Event(StrEnum):
    """An event that moves a task from one state to another."""

    DUE = "due"
    """Its run_at has come; by the promoter."""
    WAIT = "wait"
    """Its run_at has come, or its upstreams have ended, and it waits for a seat of its concurrency key or for
    a call from outside."""
    ADMIT = "admit"
    """Its concurrency key has a free seat for it, or all of its upstreams have ended."""
    DELAY = "delay"
    """All of its upstreams have ended, and it has a delay or a run_at."""
    SKIP = "skip"
    """An upstream of it ended badly."""
    ASSIGN = "assign"
    """A worker session takes its lease."""
    CANCEL = "cancel"
    """Somebody cancels it; a running task is only flagged."""
    CANCEL_NODES = "cancel nodes"
    """Somebody cancels a workflow: its root is flagged, and waits until its nodes have ended."""
    COMPLETE = "complete"
    """Its run returned a result; where no worker runs it: a call from outside did, or all nodes completed."""
    FAIL = "fail"
    """Its run failed and no retry is due; where no worker runs it: a call from outside says so, or nodes did
    not complete. A node also where the results for it are too large."""
    TIME_OUT = "time out"
    """Its run exceeded the timeout and no retry is due."""
    LOSE = "lose"
    """Its run was lost, or given back, once more than allowed."""
    STOP = "stop"
    """Its run ended without a result after a cancel request, or the nodes of a workflow did."""
    REPEAT = "repeat"
    """Its run failed, timed out, was lost or was given back; it runs again at once."""
    BACK_OFF = "back off"
    """Its run failed, timed out, was lost or given back for another worker; it runs again after a delay."""
    REOPEN = "reopen"
    """Somebody asks for an ended task to run once more."""
    REOPEN_BLOCKED = "reopen, blocked"
    """The same for one that has something to wait for: a seat of its concurrency key, upstreams, nodes, a
    call from outside."""


_S, _E = TaskState, Event

TRANSITIONS: Final[Mapping[tuple[TaskState, Event], TaskState]] = MappingProxyType(
    {
        (_S.SCHEDULED, _E.DUE): _S.QUEUED,
        (_S.RETRYING, _E.DUE): _S.QUEUED,
        (_S.SCHEDULED, _E.WAIT): _S.BLOCKED,
        (_S.BLOCKED, _E.ADMIT): _S.QUEUED,
        (_S.BLOCKED, _E.WAIT): _S.BLOCKED,
        (_S.BLOCKED, _E.DELAY): _S.SCHEDULED,
        (_S.BLOCKED, _E.SKIP): _S.CANCELLED,
        (_S.BLOCKED, _E.CANCEL): _S.CANCELLED,
        (_S.BLOCKED, _E.CANCEL_NODES): _S.BLOCKED,
        (_S.BLOCKED, _E.COMPLETE): _S.COMPLETED,
        (_S.BLOCKED, _E.FAIL): _S.FAILED,
        (_S.BLOCKED, _E.STOP): _S.CANCELLED,
        (_S.QUEUED, _E.ASSIGN): _S.RUNNING,
        (_S.QUEUED, _E.CANCEL): _S.CANCELLED,
        (_S.SCHEDULED, _E.CANCEL): _S.CANCELLED,
        (_S.RETRYING, _E.CANCEL): _S.CANCELLED,
        (_S.RUNNING, _E.CANCEL): _S.RUNNING,
        (_S.RUNNING, _E.COMPLETE): _S.COMPLETED,
        (_S.RUNNING, _E.FAIL): _S.FAILED,
        (_S.RUNNING, _E.TIME_OUT): _S.TIMED_OUT,
        (_S.RUNNING, _E.LOSE): _S.LOST,
        (_S.RUNNING, _E.STOP): _S.CANCELLED,
        (_S.RUNNING, _E.REPEAT): _S.QUEUED,
        (_S.RUNNING, _E.BACK_OFF): _S.RETRYING,
        (_S.COMPLETED, _E.REOPEN): _S.QUEUED,
        (_S.FAILED, _E.REOPEN): _S.QUEUED,
        (_S.TIMED_OUT, _E.REOPEN): _S.QUEUED,
        (_S.CANCELLED, _E.REOPEN): _S.QUEUED,
        (_S.LOST, _E.REOPEN): _S.QUEUED,
        (_S.COMPLETED, _E.REOPEN_BLOCKED): _S.BLOCKED,
        (_S.FAILED, _E.REOPEN_BLOCKED): _S.BLOCKED,
        (_S.TIMED_OUT, _E.REOPEN_BLOCKED): _S.BLOCKED,
        (_S.CANCELLED, _E.REOPEN_BLOCKED): _S.BLOCKED,
        (_S.LOST, _E.REOPEN_BLOCKED): _S.BLOCKED,
    }
)
INITIAL: Final = (TaskState.QUEUED, TaskState.SCHEDULED, TaskState.BLOCKED)


class InvalidTransition(Exception):
    """A move that the table does not have."""

    def __init__(self, state: TaskState, event: Event) -> None:
        super().__init__(f"a {state.name} task has no move for {event.name}")


def move(state: TaskState, event: Event) -> TaskState:
    """The state after the event. Raises: InvalidTransition."""
    try:
        return TRANSITIONS[state, event]
    except KeyError:
        raise InvalidTransition(state, event) from None


class Live(StrEnum):
    """The live table that holds a task's row."""

    READY = "ready"
    DELAYED = "delayed"
    LEASE = "lease"
    BLOCKED = "blocked"


def state_of(live: Live, run_number: int) -> TaskState:
    """The state of a task that has a live row with this run number."""
    match live:
        case Live.READY:
            return TaskState.QUEUED
        case Live.DELAYED:
            return TaskState.RETRYING if run_number > 0 else TaskState.SCHEDULED
        case Live.LEASE:
            return TaskState.RUNNING
        case Live.BLOCKED:
            return TaskState.BLOCKED
        case _:
            assert_never(live)


def standing(live: str | None, run_number: int | None, outcome: int | None) -> TaskState:
    """The state of a stored task, by its live table and run number, or by the outcome of its highest run."""
    if live is not None:
        return state_of(Live(live), run_number or 0)
    # LOST cannot happen: every end of a run is recorded in the statement that ends it.
    return end_state(Outcome(outcome)) if outcome is not None else TaskState.LOST


def end_state(outcome: Outcome) -> TaskState:
    """The state of a task without a live row, by the outcome of its highest run."""
    match outcome:
        case Outcome.COMPLETED:
            return TaskState.COMPLETED
        case Outcome.FAILED:
            return TaskState.FAILED
        case Outcome.TIMED_OUT:
            return TaskState.TIMED_OUT
        case Outcome.CANCELLED:
            return TaskState.CANCELLED
        case Outcome.LOST | Outcome.RELEASED:
            return TaskState.LOST
        case _:
            assert_never(outcome)


def cause_of(outcome: int | None, stored: int | None) -> CancelCause | None:
    """Why a run or a task that ended so was cancelled; None if it was not."""
    if outcome != Outcome.CANCELLED:
        return None
    return CancelCause.REQUESTED if stored is None else CancelCause(stored)
