"""A workflow of a day past its term is kept as long as its root is, or goes as a whole (rule 36)."""

from collections.abc import Mapping
from datetime import timedelta
from types import SimpleNamespace
from typing import Any

import pytest

from hyrex_broker.domain.model import Outcome, TaskId
from hyrex_broker.domain.states import TaskState
from hyrex_broker.domain.workflows import ENDED, Became
from hyrex_broker.storage import compaction
from hyrex_broker.storage.verify import verify
from hyrex_broker.storage.workflow_retries import put_back
from hyrex_broker.storage.workflows import WorkflowStore
from tests.integration.engine.workflow_runs import LIMIT, sent
from tests.integration.storage.old_days import OldDay, upkeep
from tests.integration.storage.stage import Stage, make_id
from tests.integration.storage.stored_workflows import stored_workflow

pytestmark = pytest.mark.own_database
Ids = dict[str, TaskId]
GRAPH = {"a": [], "b": [], "c": ["a=first", "b"]}
WHOLE = {"", *GRAPH}


async def _ended(day: OldDay, ends: Mapping[str, Outcome]) -> Ids:
    """A workflow of that day whose nodes have ended so."""
    request = sent(GRAPH)
    for number, task in enumerate([request.root, *(node.task for node in request.nodes)]):
        task.task_id = make_id(day.moment + number)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("hyrex_broker.service.ids.time", SimpleNamespace(time=lambda: day.moment / 1000))
        ids = await stored_workflow(day.stage, request)
    day.ids |= ids
    await _run(day.stage, ids, ends)
    return ids


async def _run(stage: Stage, ids: Ids, ends: Mapping[str, Outcome]) -> None:
    """Let nodes end, and decide what follows."""
    names = {task_id: name for name, task_id in ids.items()}
    store = WorkflowStore(stage.database)
    for _ in range(3):
        while await store.advance([*ids.values()], LIMIT):
            pass
        for run in await stage.assign(await stage.session(), 9, await stage.lane(followed=True)):
            await stage.end(run, ends[names[run.task_id]])


async def test_a_workflow_that_failed_is_kept_whole_and_can_be_retried(stage: Stage, connection: Any) -> None:
    """Its completed and its skipped nodes went with the completed tasks of their day, so a retry of what was
    kept could not but fail again."""
    day = await OldDay.of(stage, connection, "completed")
    ids = await _ended(day, {"a": Outcome.COMPLETED, "b": Outcome.FAILED})
    assert await stage.state(ids[""]) is TaskState.FAILED
    await day.retained()
    assert await day.kept() == WHOLE
    assert len(await put_back(stage.database, [ids[""]])) == 3
    await _run(stage, ids, {"b": Outcome.COMPLETED, "c": Outcome.COMPLETED})
    assert {await stage.state(each) for each in ids.values()} == {TaskState.COMPLETED}


async def test_a_workflow_that_completed_goes_with_all_of_its_nodes(stage: Stage, connection: Any) -> None:
    day = await OldDay.of(stage, connection, "sleeps")
    await _ended(day, dict.fromkeys(GRAPH, Outcome.COMPLETED))
    await day.retained()
    assert await day.kept() == {"sleeps"}


@pytest.mark.parametrize("asked", ["", "b"])
async def test_a_workflow_that_is_retried_while_its_day_is_copied_is_kept_whole(
    stage: Stage, connection: Any, asked: str
) -> None:
    """Also of the nodes that are not run again the others need results."""
    day = await OldDay.of(stage, connection, "sleeps", "completed")
    ids = await _ended(day, dict.fromkeys(GRAPH, Outcome.COMPLETED))
    async with upkeep(stage.database.url) as own:
        await own.execute(compaction._SQL["begin"], day.start.date())
        after: Any = compaction._before(day.start)
        while after is not None:
            terms = (False, True, timedelta(0), list[TaskId]())
            after = await own.fetchval(compaction._SQL["copy"], day.start.date(), after, 3, *terms)
        assert {each for each, _, _ in await put_back(stage.database, [ids[asked]])} == {ids[""], ids[asked]}
        await own.fetchval(compaction._SQL["swap"], day.start.date())
    assert await day.kept() == WHOLE | {"sleeps"}
    decided = await WorkflowStore(stage.database).advance([*ids.values()], LIMIT)
    assert [each.became for each in decided] == [Became.READY if asked else ENDED + Outcome.COMPLETED]
    assert (await verify(stage.database.url, since=day.start)).findings == {}
