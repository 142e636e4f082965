"""The table of moves is whole, and its numbers are those of the wire."""

import pytest

from hyrex.v1.task_pb2 import RunStatus, TaskStatus
from hyrex_broker.domain.model import Outcome
from hyrex_broker.domain.states import (
    INITIAL,
    TRANSITIONS,
    Event,
    InvalidTransition,
    Live,
    TaskState,
    end_state,
    move,
    state_of,
)
from hyrex_broker.domain.views import RunStatusView


def test_states_have_the_numbers_of_the_wire() -> None:
    assert {f"TASK_STATUS_{state.name}": state.value for state in TaskState} == {
        name: number for name, number in TaskStatus.items() if number
    }
    assert {f"RUN_STATUS_{state.name}": state.value for state in RunStatusView} == {
        name: number for name, number in RunStatus.items() if number
    }
    assert all(RunStatusView[outcome.name].value == outcome.value for outcome in Outcome)


def test_every_state_is_reached_and_every_event_moves_something() -> None:
    assert set(TRANSITIONS.values()) | set(INITIAL) == set(TaskState)
    assert {event for _, event in TRANSITIONS} == set(Event)


def test_an_ended_task_moves_only_when_it_is_reopened() -> None:
    for state in TaskState:
        events = {event for start, event in TRANSITIONS if start is state}
        assert (events == {Event.REOPEN, Event.REOPEN_BLOCKED}) is state.final


def test_every_task_that_has_not_ended_can_be_cancelled() -> None:
    assert all((state, Event.CANCEL) in TRANSITIONS for state in TaskState if not state.final)


def test_a_move_that_the_table_lacks_is_refused() -> None:
    assert move(TaskState.QUEUED, Event.ASSIGN) is TaskState.RUNNING
    with pytest.raises(InvalidTransition, match="a COMPLETED task has no move for CANCEL"):
        move(TaskState.COMPLETED, Event.CANCEL)


@pytest.mark.parametrize(
    ("live", "run_number", "state"),
    [
        (Live.READY, 0, TaskState.QUEUED),
        (Live.READY, 2, TaskState.QUEUED),
        (Live.DELAYED, 0, TaskState.SCHEDULED),
        (Live.DELAYED, 1, TaskState.RETRYING),
        (Live.LEASE, 0, TaskState.RUNNING),
    ],
)
def test_a_live_row_says_the_state(live: Live, run_number: int, state: TaskState) -> None:
    assert state_of(live, run_number) is state


def test_every_outcome_ends_in_a_final_state() -> None:
    assert all(end_state(outcome).final for outcome in Outcome)
