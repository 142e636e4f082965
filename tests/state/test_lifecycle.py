"""The storage moves tasks as the table of moves says, and the machine notices when a guard is gone."""

import itertools
from typing import Any

import pytest
from hypothesis.stateful import run_state_machine_as_test

from hyrex_broker.domain.model import Outcome
from hyrex_broker.domain.states import TRANSITIONS, Event, TaskState
from hyrex_broker.storage import report
from tests.state.lifecycle import Lifecycle
from tests.state.unrun import walk_unrun
from tests.state.world import World, steps

_ENDS = {
    Event.COMPLETE: Outcome.COMPLETED,
    Event.FAIL: Outcome.FAILED,
    Event.TIME_OUT: Outcome.TIMED_OUT,
    Event.STOP: Outcome.CANCELLED,
    Event.LOSE: Outcome.LOST,
}


def machine_on(world: World) -> Any:
    return type("LifecycleHere", (Lifecycle,), {"world": world, "seen": set()})


def test_every_move_of_the_table_is_made(world: World) -> None:
    """A walk over the whole table; the machine compares storage and model at each step."""
    machine = machine_on(world)
    for outcome, has_key in itertools.product(_ENDS.values(), (False, True)):
        walk = machine()
        walk.begin()
        (walk.submit_keyed if has_key else walk.submit)(later=False)
        end_for_good(walk, outcome)
        walk.reopen(0)
        walk.follow()
        walk.storage_agrees()
        walk.cancel(0)
        walk.reopen(0)
        walk.storage_agrees()
    walk = machine()
    walk.begin()
    walk.submit(later=True)
    walk.due(0)
    walk.assign(1)
    walk.cancel(0)
    walk.give_up(0, Outcome.RELEASED)
    walk.reopen(0)
    walk.assign(1)
    walk.fail(0, False, Outcome.FAILED)
    walk.cancel(0)
    walk.submit(later=True)
    walk.cancel(1)
    walk.submit_keyed(later=True)
    walk.due(2)
    walk.cancel(2)
    walk.storage_agrees()
    world.empty()
    assert machine.seen | world.run(walk_unrun(world.stages[0])) == set(TRANSITIONS)


def end_for_good(walk: Any, outcome: Outcome) -> None:
    """Report the same outcome until no repetition is left."""
    (model,) = walk.tasks.values()
    while not model.state.final:
        if model.state is TaskState.RETRYING:
            walk.due(0)
        walk.assign(1)
        walk._report(0, outcome, at_once=model.attempts == 0 and outcome is Outcome.FAILED)
        walk.storage_agrees()


def test_tasks_move_as_the_table_says(world: World) -> None:
    run_state_machine_as_test(machine_on(world), settings=steps(30, 30))


def test_reports_without_the_token_guard_are_noticed(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    guard = "where task_id = r.task and token = r.token"
    statement = report._SQL["report"]
    assert guard in statement
    unguarded = statement.replace(guard, "where task_id = r.task")
    monkeypatch.setattr(report, "_SQL", {**report._SQL, "report": unguarded})
    with pytest.raises(AssertionError, match="report changed something"):
        run_state_machine_as_test(machine_on(world), settings=steps(300, 40))
