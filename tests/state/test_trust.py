"""No network, clock or reconnect makes two trusted executions of one task; without a guard, some do.

Each guard has a scenario that the machine passes with it and fails without it.
"""

from collections.abc import Callable
from types import ModuleType
from typing import Any

import pytest
from hypothesis.stateful import run_state_machine_as_test

from hyrex_broker.domain.model import Outcome, RunEnd
from hyrex_broker.engine.liveness import heartbeats
from hyrex_broker.storage import assign, report
from tests.state.trust import TrustMachine
from tests.state.trust_parts import Answer, Worker
from tests.state.world import World, steps

Scenario = Callable[[Any], None]


def machine_on(world: World) -> Any:
    return type("TrustHere", (TrustMachine,), {"world": world})


class Walk:
    """Calls rules of a machine one by one; after each, everything that must hold is checked."""

    def __init__(self, machine: Any) -> None:
        self._machine = machine
        machine.begin()

    def __getattr__(self, rule: str) -> Callable[..., None]:
        def step(*args: int) -> None:
            machine = self._machine
            getattr(machine, rule)(*args)
            machine.no_task_is_executed_by_two_that_trust()
            machine.brokers_know_the_leases_of_their_sessions()
            machine.nothing_is_completed_twice()

        return step

    def first_worker_is_silent_for_a_lease(self) -> None:
        """Sixteen seconds in which only the second worker renews; then the first one's session is swept."""
        for seconds in (5, 5, 5, 1):
            self.time_passes(seconds)
            self.beat(1)
            self.beat_arrives(1)
            self.answer_arrives(1)
        self.sweep(1)


def late_report(walk: Walk, outcome: Outcome = Outcome.COMPLETED) -> None:
    """The first worker's run ends, but it reports after its session was swept and the task went on."""
    walk.submit(1)
    walk.assign(0, 1)
    walk.deliver(0)
    walk.finish(0, outcome)
    walk.first_worker_is_silent_for_a_lease()
    walk.assign(1, 1)
    walk.report(0)


def late_failure(walk: Walk) -> None:
    """The same with a run that failed, which another statement records."""
    late_report(walk, Outcome.FAILED)


def late_assign(walk: Walk) -> None:
    """A broker assigns to a session that has just resumed elsewhere."""
    walk.submit(1)
    walk.reconnect(0, 1)
    walk.assign_late(1)


def late_answer(walk: Walk) -> None:
    """A heartbeat's acknowledgement is on its way for ten seconds."""
    walk.submit(1)
    walk.assign(0, 1)
    walk.deliver(0)
    walk.beat(0)
    walk.beat_arrives(0)
    for _ in range(2):
        walk.time_passes(5)
        walk.beat(1)
        walk.beat_arrives(1)
        walk.answer_arrives(1)
    walk.answer_arrives(0)
    walk.time_passes(5)
    walk.time_passes(1)
    walk.sweep(1)
    walk.assign(1, 1)
    walk.deliver(1)


def crossing_heartbeat(walk: Walk) -> None:
    """A heartbeat that holds nothing crosses an assignment on its way."""
    walk.submit(1)
    walk.assign(0, 1)
    walk.beat(0)
    walk.beat_arrives(0)
    walk.assign(1, 1)
    walk.deliver(1)
    walk.deliver(0)


def test_trust_is_never_shared(world: World) -> None:
    run_state_machine_as_test(machine_on(world), settings=steps(40, 40))


@pytest.mark.parametrize(
    "scenario", [late_report, late_failure, late_assign, late_answer, crossing_heartbeat]
)
def test_a_guarded_scenario_goes_well(world: World, scenario: Scenario) -> None:
    scenario(Walk(machine_on(world)()))


@pytest.mark.parametrize(
    ("scenario", "module", "statement", "guard", "without", "complaint"),
    [
        pytest.param(
            late_report, report, "report_completed", "where task_id = r.task and token = r.token",
            "where task_id = r.task", "without its lease", id="token match of a completed run",
        ),
        pytest.param(
            late_failure, report, "report", "where task_id = r.task and token = r.token",
            "where task_id = r.task", "without its lease", id="token match",
        ),
        pytest.param(
            late_assign, assign, "assign", "and owner = $3 and worker_session.generation = s.generation",
            "and $3::bigint is not null", "another owner", id="session ownership",
        ),
    ],
)  # fmt: skip
def test_a_statement_without_its_guard_is_noticed(
    world: World,
    monkeypatch: pytest.MonkeyPatch,
    scenario: Scenario,
    module: ModuleType,
    statement: str,
    guard: str,
    without: str,
    complaint: str,
) -> None:
    statements = vars(module)["_SQL"]
    assert guard in statements[statement]
    unguarded = statements[statement].replace(guard, without)
    monkeypatch.setattr(module, "_SQL", {**statements, statement: unguarded})
    with pytest.raises(AssertionError, match=complaint):
        scenario(Walk(machine_on(world)()))


def test_trust_counted_from_the_arrival_of_the_answer_is_noticed(world: World) -> None:
    """Rule 10: trust begins when the heartbeat was sent; its answer may have been long on its way."""

    class Trusting(machine_on(world)):  # type: ignore[misc]
        def _acknowledged(self, worker: Worker, answer: Answer) -> None:
            worker.own.trust_from(self.now_ns)

    with pytest.raises(AssertionError, match="executed twice"):
        late_answer(Walk(Trusting()))


def test_without_receipts_a_run_on_its_way_is_given_to_another(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rule 7: what a heartbeat does not hold is an orphan only if the worker had received it."""

    def beat(self: Any, session: Any, sequence: int, held: Any, received_through: int) -> list[RunEnd]:
        tokens = set(held)
        return [
            RunEnd(task_id, token, session.session_id, Outcome.LOST)
            for token, (task_id, _, _) in session.leases.items()
            if token not in tokens
        ]

    monkeypatch.setattr(heartbeats.Heartbeats, "beat", beat)
    with pytest.raises(AssertionError, match="executed twice"):
        crossing_heartbeat(Walk(machine_on(world)()))
