"""A root whose row a cancel replaces, beside a decision on it and a retry (rule 27)."""

import asyncio
from typing import Any

from hyrex_broker.domain.model import Outcome, TaskId
from hyrex_broker.storage.statements import load
from hyrex_broker.storage.workflows import WorkflowStore
from tests.integration.engine.workflow_runs import LIMIT
from tests.integration.storage.stage import Stage
from tests.integration.storage.stored_workflows import stored_workflow
from tests.integration.storage.waits import until_blocked
from tests.support.postgres import connect


async def _failed(stage: Stage) -> dict[str, TaskId]:
    """A workflow of one node, which failed; nobody has followed that."""
    ids = await stored_workflow(stage, {"a": []})
    (run,) = await stage.assign(await stage.session(), 1, await stage.lane(followed=True))
    await stage.end(run, Outcome.FAILED)
    return ids


async def test_a_root_whose_row_a_cancel_replaced_does_not_end_beside_a_retry_that_locked_the_new_one(
    stage: Stage, rival: Stage, connection: Any
) -> None:
    """What decides has waited for the row that the cancel removed, so it has no lock of the one that is there
    now; a retry has it, and puts back the root's only node."""
    first, second = await _failed(stage), await _failed(stage)
    other = await connect(stage.database.url)
    try:
        held = other.transaction()
        await held.start()
        await other.execute("select from hyrex.blocked where task_id = $1 for key share", second[""])
        async with connection.transaction():
            await connection.execute("set search_path = hyrex")
            await connection.fetch(load("cancel")["cancel_blocked"], [first[""]], "no more")
            deciding = asyncio.create_task(
                WorkflowStore(rival.database).advance([first["a"], second["a"]], LIMIT)
            )
            await until_blocked(connection)
        await until_blocked(connection)  # for the second root now
        async with connection.transaction():
            await connection.execute("set search_path = hyrex")
            await connection.fetch(load("workflows")["retry"], sorted(first.values()), [first["a"]], [])
            await held.rollback()
            await asyncio.wait([deciding], timeout=0.5)
        assert {each.task_id for each in await deciding} == {second[""]}
    finally:
        await other.close()
    live = {str(row[0]) for row in await stage.database.fetch("select task_id from live")}
    assert live == {first[""], first["a"]}
