"""A walk over the moves of tasks that no worker runs, and of nodes, each compared with the table of moves."""

from dataclasses import dataclass, field

from hyrex_broker.domain.model import Outcome, OutsideEnd, TaskExtras, TaskId
from hyrex_broker.domain.states import Event, TaskState, move
from hyrex_broker.storage.outside import OutsideStore
from hyrex_broker.storage.workflows import WorkflowStore
from tests.integration.engine.workflow_runs import LIMIT, sent
from tests.integration.storage.stage import Stage, new_task
from tests.integration.storage.stored_workflows import stored_workflow

Moves = set[tuple[TaskState, Event]]
_B = TaskState.BLOCKED


@dataclass
class Walk:
    """Tasks that are blocked, and the moves that were made."""

    stage: Stage
    seen: Moves = field(default_factory=set)

    async def moved(self, task_id: TaskId, event: Event) -> None:
        """The task was blocked, and is where the table says now."""
        self.seen.add((_B, event))
        assert await self.stage.state(task_id) is move(_B, event), event

    async def answered(self, outcome: Outcome, event: Event) -> None:
        """A call from outside ends a task."""
        task = new_task(extras=TaskExtras(is_outside=True))
        await self.stage.submit(task)
        assert await self.stage.state(task.task_id) is _B
        await OutsideStore(self.stage.database).complete([task.task_id], OutsideEnd(outcome))
        await self.moved(task.task_id, event)

    async def ended(self, outcome: Outcome) -> dict[str, TaskId]:
        """A workflow of which the first node has ended so, and what follows from it has been decided."""
        request = sent(
            {"first": [], "plain": ["first"], "later": ["first"], "keyed": ["first"]},
            keyed={"concurrency_key": "k", "max_per_key": 1},
        )
        request.nodes[2].task.delay.FromSeconds(3600)
        ids = await stored_workflow(self.stage, request)
        (run,) = await self.stage.assign(
            await self.stage.session(), lane=await self.stage.lane(followed=True)
        )
        await self.stage.end(run, outcome)
        await self.advance(ids["first"])
        return ids

    async def advance(self, *task_ids: TaskId) -> None:
        await WorkflowStore(self.stage.database).advance(task_ids, LIMIT)


async def walk_unrun(stage: Stage) -> Moves:
    """The moves that were made, none of them by a run."""
    walk = Walk(stage)
    for outcome, event in ((Outcome.COMPLETED, Event.COMPLETE), (Outcome.FAILED, Event.FAIL)):
        await walk.answered(outcome, event)

    ids = await walk.ended(Outcome.COMPLETED)
    for name, event in (("plain", Event.ADMIT), ("later", Event.DELAY), ("keyed", Event.WAIT)):
        await walk.moved(ids[name], event)
    await stage.cancels.cancel_wherever([ids[""]], "")
    await walk.moved(ids[""], Event.CANCEL_NODES)
    nodes = [task_id for name, task_id in ids.items() if name]
    await stage.cancels.cancel_wherever(nodes, "")
    await walk.advance(*nodes)
    await walk.moved(ids[""], Event.STOP)

    ids = await walk.ended(Outcome.FAILED)
    await walk.moved(ids["plain"], Event.SKIP)
    await walk.advance(*ids.values())
    await walk.moved(ids[""], Event.FAIL)

    ids = await stored_workflow(stage, {"only": []})
    (run,) = await stage.assign(await stage.session(), lane=await stage.lane(followed=True))
    await stage.end(run, Outcome.COMPLETED)
    await walk.advance(ids["only"])
    await walk.moved(ids[""], Event.COMPLETE)
    return walk.seen
