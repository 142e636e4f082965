"""What the verdict of a storm says of workflows; the storm itself is in tests/chaos."""

from typing import Any

import asyncpg

from hyrex_broker.domain.model import Outcome, TaskId
from hyrex_broker.storage.workflow_retries import put_back
from hyrex_broker.storage.workflows import WorkflowStore
from tests.chaos.workflows import watch_decisions, wrong_workflows
from tests.integration.engine.workflow_runs import LIMIT
from tests.integration.storage.stage import Stage
from tests.integration.storage.stored_workflows import stored_workflow
from tests.support.postgres import connect

Ids = dict[str, TaskId]
_GOES_ON = (
    "with gone as (delete from hyrex.blocked where task_id = $1 returning *) insert into hyrex.ready"
    " select task_id, lane, rank, now(), run_number, 0, 0, 0, false from gone"
)
_ENDS = (
    "with gone as (delete from hyrex.blocked where task_id = $1 returning *) insert into hyrex.task_run"
    " (task_id, run_number, attempt_number, outcome, final, cause)"
    " select task_id, run_number, 0, 5, true, case when kind = 3 then 4 end from gone"
)


async def _ended(stage: Stage, graph: dict[str, list[str]], outcome: Outcome) -> Ids:
    """A workflow whose first node has ended; nobody has followed that."""
    ids = await stored_workflow(stage, graph)
    runs = await stage.assign(await stage.session(), 9, await stage.lane(followed=True))
    for run in runs:
        if run.task_id == ids["a"]:
            await stage.end(run, outcome)
    return ids


async def _told(url: str, connection: Any) -> list[str]:
    """What was noted since the last look, without the particulars; nothing else is told of what lives."""
    lines = await wrong_workflows(url)
    await connection.execute("delete from storm.torn")
    return [" ".join(line.split()[2:5]) for line in lines if "is left" not in line]


async def test_what_is_decided_too_early_or_wrongly_is_told(database_url: str) -> None:
    """On a database of its own: it gets a trigger."""
    await watch_decisions(database_url)
    connection: asyncpg.Connection = await connect(database_url)
    try:
        async with Stage.on(database_url) as stage:
            early = await stored_workflow(stage, {"a": [], "b": ["a"]})
            for name, lines in {"b": ["was decided while"], "": ["ended while its"] * 2}.items():
                await connection.execute(_GOES_ON if name else _ENDS, early[name])
                assert await _told(database_url, connection) == lines
            good = await _ended(stage, {"a": [], "b": ["a"]}, Outcome.COMPLETED)
            await connection.execute(_ENDS, good["b"])
            assert await _told(database_url, connection) == ["was skipped although"]
            bad = await _ended(stage, {"a": [], "b": ["a"], "c": ["a!"]}, Outcome.FAILED)
            await connection.execute(_GOES_ON, bad["c"])
            assert await _told(database_url, connection) == []
            await connection.execute(_GOES_ON, bad["b"])
            assert await _told(database_url, connection) == ["goes on although"]
    finally:
        await connection.close()


async def test_workflows_that_end_are_retried_and_cancelled_as_they_should_are_not_told_of(
    database_url: str,
) -> None:
    await watch_decisions(database_url)
    async with Stage.on(database_url) as stage:
        store = WorkflowStore(stage.database)
        ids = await _ended(stage, {"a": [], "b": ["a"], "c": ["b!"]}, Outcome.FAILED)
        await store.advance([ids["a"]], LIMIT)
        await store.advance([ids["b"]], LIMIT)
        assert len(await stage.cancels.cancel_wherever([ids["c"], ids[""]], "no more")) == 2
        await store.advance([ids["c"]], LIMIT)
        assert await wrong_workflows(database_url) == []
        assert len(await put_back(stage.database, [ids[""]])) == 4
        assert {line.split()[-1] for line in await wrong_workflows(database_url)} == {"left"}
