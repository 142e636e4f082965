"""The life of tasks as a machine: random events on the real storage, compared with the table of moves.

The model is broker/hyrex_broker/domain/states.py: an event that the table has for a task's state must move it
there, and one that the table lacks must change nothing.
"""

from dataclasses import dataclass, field, replace
from typing import ClassVar

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from hyrex_broker.domain.model import Outcome, TaskExtras, TaskId, Token
from hyrex_broker.domain.states import TRANSITIONS, Event, TaskState, move
from hyrex_broker.storage.report import REDELIVERIES_BOUND
from hyrex_broker.storage.sessions import Opened
from tests.integration.storage.keys import follow, keyed, submit_keyed
from tests.integration.storage.stage import ZERO, Stage, end_of, new_task
from tests.state.world import World
from tests.support.assigned import AssignedRun

_MAX_RETRIES = 1
_picks = st.integers(0, 3)
_outcomes = st.sampled_from(list(Outcome))


@dataclass
class Model:
    """What should be known of one task."""

    state: TaskState
    run_number: int = 0
    attempts: int = 0
    losses: int = 0
    alone: bool = False
    cancelled: bool = False
    keyed: bool = False
    recorded: list[Outcome] = field(default_factory=list)
    run: AssignedRun | None = None
    old: list[AssignedRun] = field(default_factory=list)


class Lifecycle(RuleBasedStateMachine):
    """Up to three tasks; each rule is an event for one of them, legal or not."""

    world: ClassVar[World]
    seen: ClassVar[set[tuple[TaskState, Event]]]
    stage: Stage
    opened: Opened

    def __init__(self) -> None:
        super().__init__()
        self.tasks: dict[TaskId, Model] = {}
        self.waiting: list[TaskId] = []
        self.fresh: list[TaskId] = []

    @initialize()
    def begin(self) -> None:
        self.world.empty()
        self.stage = self.world.stages[0]
        self.opened = self.world.run(self.stage.session())

    @precondition(lambda self: len(self.tasks) < 3)
    @rule(later=st.booleans())
    def submit(self, later: bool) -> None:
        extras = TaskExtras(delay_ms=3_600_000) if later else None
        task = new_task(extras=extras, max_retries=_MAX_RETRIES)
        self.world.run(self.stage.submit(task))
        self.tasks[task.task_id] = Model(TaskState.SCHEDULED if later else TaskState.QUEUED)

    @precondition(lambda self: len(self.tasks) < 3)
    @rule(later=st.booleans())
    def submit_keyed(self, later: bool) -> None:
        """All of one concurrency key, of which one may run at once."""
        task = keyed(delay_ms=3_600_000 if later else None)
        task.terms = replace(task.terms, max_retries=_MAX_RETRIES)
        self.world.run(submit_keyed(self.stage, task))
        admitted = not self.waiting and not self._seats()
        state = TaskState.QUEUED if admitted else TaskState.BLOCKED
        if not later and not admitted:
            self.waiting.append(task.task_id)
        self.tasks[task.task_id] = Model(TaskState.SCHEDULED if later else state, keyed=True)

    def _seats(self) -> int:
        """How many tasks have a seat of the key."""
        with_seat = (TaskState.QUEUED, TaskState.RUNNING, TaskState.RETRYING)
        return sum(model.keyed and model.state in with_seat for model in self.tasks.values())

    @precondition(lambda self: self.tasks)
    @rule()
    def follow(self) -> None:
        """Everything is followed: those that nobody has looked at wait now, and the first goes if it can."""
        self.waiting += sorted(self.fresh)
        self.fresh.clear()
        admitted = [self.waiting.pop(0)] if self.waiting and not self._seats() else []
        assert self.world.run(follow(self.stage, *self.tasks)) == {*admitted}
        for task_id in admitted:
            self._moved(self.tasks[task_id], Event.ADMIT, must=True)

    @precondition(lambda self: self.tasks)
    @rule(pick=_picks)
    def due(self, pick: int) -> None:
        task_id, model = self._pick(pick)
        self.world.run(self._let_be_due(task_id))
        if model.keyed and model.state is TaskState.SCHEDULED:
            self.fresh.append(task_id)
            self._moved(model, Event.WAIT, must=True)
        else:
            self._moved(model, Event.DUE)

    async def _let_be_due(self, task_id: TaskId) -> None:
        await self.stage.execute("update delayed set run_at = now() where task_id = $1", task_id)
        await self.stage.promotes.promote(ZERO, 10)

    @precondition(lambda self: self.tasks)
    @rule(count=st.integers(1, 3))
    def assign(self, count: int) -> None:
        for run in self.world.run(self._assigned(count)):
            model = self.tasks[run.task_id]
            self._moved(model, Event.ASSIGN, must=True)
            assert (run.run_number, run.attempt_number) == (model.run_number, model.attempts)
            assert run.alone == model.alone
            model.run = run

    async def _assigned(self, count: int) -> list[AssignedRun]:
        """Runs of plain and of keyed tasks."""
        lane = await self.stage.lane(followed=True)
        return [
            *await self.stage.assign(self.opened, count),
            *await self.stage.assign(self.opened, count, lane),
        ]

    @precondition(lambda self: self.tasks)
    @rule(pick=_picks)
    def cancel(self, pick: int) -> None:
        task_id, model = self._pick(pick)
        waits = not model.state.final and model.state is not TaskState.RUNNING
        found = self.world.run(self.stage.cancels.cancel_wherever([task_id], "test"))
        for each in (self.waiting, self.fresh):
            if task_id in each:
                each.remove(task_id)
        assert bool(found) == (waits or (model.state is TaskState.RUNNING and not model.cancelled))
        if waits:
            model.recorded.append(Outcome.CANCELLED)
        if model.state is TaskState.RUNNING:
            model.cancelled = True
        self._moved(model, Event.CANCEL)

    @precondition(lambda self: any(model.run for model in self.tasks.values()))
    @rule(pick=_picks)
    def complete(self, pick: int) -> None:
        self._report(pick, Outcome.COMPLETED, at_once=False)

    @precondition(lambda self: any(model.run for model in self.tasks.values()))
    @rule(pick=_picks, at_once=st.booleans(), outcome=st.sampled_from([Outcome.FAILED, Outcome.TIMED_OUT]))
    def fail(self, pick: int, at_once: bool, outcome: Outcome) -> None:
        self._report(pick, outcome, at_once=at_once)

    @precondition(lambda self: any(model.run for model in self.tasks.values()))
    @rule(pick=_picks, outcome=st.sampled_from([Outcome.LOST, Outcome.RELEASED, Outcome.CANCELLED]))
    def give_up(self, pick: int, outcome: Outcome) -> None:
        self._report(pick, outcome, at_once=True)

    def _report(self, pick: int, outcome: Outcome, *, at_once: bool) -> None:
        running = [model for model in self.tasks.values() if model.run is not None]
        model = running[pick % len(running)]
        assert model.run is not None
        end = end_of(model.run, outcome, retry_delay_ms=0 if at_once else 60_000, alone=True)
        ended = self.world.run(self.stage.ended([end]))
        assert len(ended) == 1
        self._end(model, outcome, at_once)

    def _end(self, model: Model, outcome: Outcome, at_once: bool) -> None:
        assert model.run is not None
        event = _event(model, outcome, at_once)
        recorded = outcome
        if event is Event.STOP and outcome is not Outcome.CANCELLED:
            recorded = Outcome.CANCELLED
        model.recorded.append(recorded)
        self._moved(model, event, must=True)
        model.old.append(model.run)
        model.run, model.cancelled = None, False
        model.run_number += 1
        if outcome in (Outcome.FAILED, Outcome.TIMED_OUT):
            model.attempts += 1
        if outcome is Outcome.LOST:
            model.losses += 1
            model.alone = True

    @precondition(lambda self: any(model.old for model in self.tasks.values()))
    @rule(pick=_picks, outcome=_outcomes)
    def report_again(self, pick: int, outcome: Outcome) -> None:
        """The token of an earlier run: stale or duplicate, never more."""
        _, model = self._pick(pick)
        for run in model.old:
            assert self.world.run(self.stage.end(run, outcome)) == [], "a stale report changed something"

    @precondition(lambda self: any(model.run for model in self.tasks.values()))
    @rule(pick=_picks)
    def report_forged(self, pick: int) -> None:
        _, model = self._pick(pick)
        if model.run is not None:
            forged = end_of(model.run, Outcome.COMPLETED, token=Token(model.run.token ^ 1 << 40))
            assert self.world.run(self.stage.ended([forged])) == [], "a forged report changed something"

    @precondition(lambda self: self.tasks)
    @rule(pick=_picks)
    def reopen(self, pick: int) -> None:
        task_id, model = self._pick(pick)
        requeued = self.world.run(self.stage.cancels.retry([task_id, task_id]))
        assert len(requeued) == int(model.state.final)
        if model.state.final:
            model.run_number = len(model.recorded)
            model.attempts = model.losses = 0
            model.alone = False
            if model.keyed:
                self.fresh.append(task_id)
        self._moved(model, Event.REOPEN_BLOCKED if model.keyed else Event.REOPEN)

    @invariant()
    def storage_agrees(self) -> None:
        for task_id, model in self.tasks.items():
            assert self.world.run(self.stage.state(task_id)) is model.state
            runs = self.world.run(self.stage.runs(task_id))
            assert [run["outcome"] for run in runs] == model.recorded
            assert [run["run_number"] for run in runs] == list(range(len(runs)))

    def _pick(self, pick: int) -> tuple[TaskId, Model]:
        return list(self.tasks.items())[pick % len(self.tasks)]

    def _moved(self, model: Model, event: Event, *, must: bool = False) -> None:
        """Move the model where the table has the event for its state; else it must stay."""
        if must or (model.state, event) in TRANSITIONS:
            self.seen.add((model.state, event))
            model.state = move(model.state, event)


def _event(model: Model, outcome: Outcome, at_once: bool) -> Event:
    """Which event a report is, by the rules of retries and redeliveries."""
    assert model.run is not None
    if outcome is Outcome.COMPLETED:
        return Event.COMPLETE
    if outcome is Outcome.CANCELLED or model.cancelled:
        return Event.STOP
    again = Event.REPEAT if at_once else Event.BACK_OFF
    match outcome:
        case Outcome.FAILED:
            return again if model.attempts < _MAX_RETRIES else Event.FAIL
        case Outcome.TIMED_OUT:
            return again if model.attempts < _MAX_RETRIES else Event.TIME_OUT
        case Outcome.LOST:
            if model.losses >= REDELIVERIES_BOUND:
                return Event.LOSE
            return Event.REPEAT if model.losses == 0 else Event.BACK_OFF
        case _:
            return Event.REPEAT
