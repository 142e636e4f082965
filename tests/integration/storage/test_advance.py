"""What becomes of workflows when tasks end, played with two connections: rules 23 to 28."""

import asyncio
import json
from collections.abc import Sequence
from typing import Any

import pytest

from hyrex_broker.domain.errors import StorageUnavailable
from hyrex_broker.domain.model import Outcome, TaskId
from hyrex_broker.domain.workflows import ENDED, Became
from hyrex_broker.storage import workflow_retries
from hyrex_broker.storage.pool import Database, Transaction
from hyrex_broker.storage.statements import load
from hyrex_broker.storage.workflow_retries import put_back
from hyrex_broker.storage.workflows import WorkflowStore
from tests.integration.engine.workflow_runs import LIMIT
from tests.integration.storage.stage import Stage
from tests.integration.storage.stored_workflows import stored_workflow
from tests.integration.storage.waits import until_blocked
from tests.support.assigned import AssignedRun

Ids = dict[str, TaskId]
FAILED, COMPLETED = ENDED + Outcome.FAILED, ENDED + Outcome.COMPLETED


async def _taken(stage: Stage, count: int = 1) -> list[AssignedRun]:
    return await stage.assign(await stage.session(), count, await stage.lane(followed=True))


async def _advanced(stage: Stage, ids: Ids, *names: str) -> dict[str, int]:
    """What becomes of which node when these are followed."""
    named = {task_id: name for name, task_id in ids.items()}
    decided = await WorkflowStore(stage.database).advance([ids[name] for name in names], LIMIT)
    return {named[each.task_id]: each.became for each in decided}


async def _retry_in(connection: Any, ids: Ids, node: str) -> None:
    """Put a node back in the transaction of a connection, which stays open."""
    await connection.execute("set search_path = hyrex")
    await connection.fetch(load("workflows")["retry"], sorted(ids.values()), [ids[node]], [])


async def test_a_node_goes_on_when_the_last_of_its_upstreams_has_ended(stage: Stage) -> None:
    ids = await stored_workflow(stage, {"a": [], "b": [], "c": ["a", "b"]})
    for run in await _taken(stage, 2):
        assert "c" not in await _advanced(stage, ids, "a", "b")
        await stage.end(run, Outcome.COMPLETED)
    assert await _advanced(stage, ids, "b") == {"c": Became.READY}


async def test_ends_of_two_upstreams_beside_each_other_let_their_node_go_on(
    stage: Stage, rival: Stage, connection: Any
) -> None:
    """Rule 23: each is followed after its commit, so whoever commits last sees both. The first one here is
    not committed while the other is followed."""
    ids = await stored_workflow(stage, {"a": [], "b": [], "c": ["a", "b"]})
    first, second = await _taken(stage, 2)
    async with connection.transaction():
        await connection.execute("set search_path = hyrex")
        await connection.execute("delete from lease where task_id = $1", first.task_id)
        await connection.execute(
            "insert into task_run (task_id, run_number, attempt_number, outcome, final)"
            " values ($1, 0, 0, 2, true)",
            first.task_id,
        )
        await rival.end(second, Outcome.COMPLETED)
        assert await _advanced(rival, ids, "a", "b") == {}
    assert await _advanced(stage, ids, "a") == {"c": Became.READY}


async def test_a_node_that_is_put_back_beside_the_end_of_its_root_keeps_it(
    stage: Stage, rival: Stage, connection: Any
) -> None:
    """Rule 27. The last node has ended and nobody has followed it yet, when somebody puts it back: advance
    waits for that, looks again, and finds the node live."""
    ids = await stored_workflow(stage, {"a": []})
    (run,) = await _taken(stage)
    await stage.end(run, Outcome.FAILED)
    async with connection.transaction():
        await _retry_in(connection, ids, "a")
        following = asyncio.create_task(_advanced(rival, ids, "a"))
        await until_blocked(connection)
    assert await following == {}
    assert await _advanced(stage, ids, "a") == {"a": Became.READY}
    (run,) = await _taken(stage)
    await stage.end(run, Outcome.COMPLETED)
    assert await _advanced(stage, ids, "a") == {"": COMPLETED}


async def test_a_node_that_is_put_back_beside_the_decision_on_its_follower_holds_it(
    stage: Stage, rival: Stage, connection: Any
) -> None:
    """The same of a node that waits for it: it is neither skipped nor run while the other one lives again."""
    ids = await stored_workflow(stage, {"a": [], "b": ["a"], "e": []})
    for run in await _taken(stage, 2):
        await stage.end(run, Outcome.FAILED if run.task_id == ids["a"] else Outcome.COMPLETED)
    async with connection.transaction():
        await _retry_in(connection, ids, "a")
        following = asyncio.create_task(_advanced(rival, ids, "a"))
        await until_blocked(connection)
    assert await following == {}
    assert await _advanced(stage, ids, "a") == {"a": Became.READY}


async def test_a_retry_beside_the_end_of_the_root_puts_back_both(
    stage: Stage, rival: Stage, connection: Any
) -> None:
    """The other way round: the retry waits for the end of the root, finds none that lives, leaves the node,
    and at the next look puts back both."""
    ids = await stored_workflow(stage, {"a": []})
    (run,) = await _taken(stage)
    await stage.end(run, Outcome.FAILED)
    async with connection.transaction():
        await connection.execute("set search_path = hyrex")
        await connection.fetch("select * from advance(array[$1::uuid], 1000)", ids["a"])
        retrying = asyncio.create_task(put_back(rival.database, [ids["a"]]))
        await until_blocked(connection)
    assert await retrying == []
    assert {each[0] for each in await put_back(rival.database, [ids["a"]])} == {ids["a"], ids[""]}


async def test_a_node_is_skipped_where_one_of_two_edges_to_an_upstream_does_not_run_anyway(
    stage: Stage,
) -> None:
    ids = await stored_workflow(stage, {"a": [], "b": ["a", "a!"], "c": ["a!"]})
    (run,) = await _taken(stage)
    await stage.end(run, Outcome.FAILED)
    assert await _advanced(stage, ids, "a") == {"b": ENDED + Outcome.CANCELLED, "c": Became.READY}


async def test_the_result_of_a_root_names_the_nodes_for_which_no_other_waits(stage: Stage) -> None:
    ids = await stored_workflow(stage, {"a": [], "b": [], "c": ["a"], "d": ["a=x"]})
    for names in ("ab", "cd"):
        for run in await _taken(stage, 2):
            await stage.end(run, Outcome.COMPLETED)
        await _advanced(stage, ids, *names)
    result = await stage.execute("select result from task_run where task_id = $1", ids[""])
    assert json.loads(result) == {"sinks": {name: ids[name] for name in "bcd"}}


async def test_two_that_follow_the_same_end_decide_it_once(
    stage: Stage, rival: Stage, connection: Any
) -> None:
    ids = await stored_workflow(stage, {"a": []})
    (run,) = await _taken(stage)
    await stage.end(run, Outcome.FAILED)
    async with connection.transaction():
        await connection.execute("set search_path = hyrex")
        assert len(await connection.fetch("select * from advance(array[$1::uuid], 1000)", ids["a"])) == 1
        following = asyncio.create_task(_advanced(rival, ids, "a"))
        await until_blocked(connection)
    assert await following == {}


async def test_a_root_ends_by_its_own_word_after_all_of_its_nodes(
    stage: Stage, rival: Stage, connection: Any
) -> None:
    """Also where the transaction that ends it began before the last node ended."""
    ids = await stored_workflow(stage, {"a": []})
    (run,) = await _taken(stage)
    async with connection.transaction():
        await connection.execute("set search_path = hyrex")
        await connection.execute("select now()")
        await rival.end(run, Outcome.COMPLETED)
        assert len(await connection.fetch("select * from advance(array[$1::uuid], 1000)", ids["a"])) == 1
    ends = "select finished_at from task_run where task_id = $1"
    assert await stage.execute(ends, ids[""]) > await stage.execute(ends, ids["a"])


async def _failed(stage: Stage) -> Ids:
    """A workflow of three nodes that ended badly."""
    ids = await stored_workflow(stage, {"a": [], "b": ["a"], "c": ["b"]})
    (run,) = await _taken(stage)
    await stage.end(run, Outcome.FAILED)
    for name in "abc":
        await _advanced(stage, ids, name)
    return ids


async def test_many_workflows_are_put_back_by_a_statement_for_a_few_at_a_time(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One for twelve workflows of a thousand nodes ran into its timeout, however often it was asked for."""
    monkeypatch.setattr(workflow_retries, "AT_ONCE", 9)
    stored = [await _failed(stage) for _ in range(5)]
    asked = [ids[""] for ids in stored] + [stored[0]["a"]]
    real, looked = workflow_retries._put_back, []

    async def watched(database: Database | Transaction, rows: Sequence[Any]) -> Any:
        looked.append(len(workflow_retries._ids(rows)))
        return await real(database, rows)

    monkeypatch.setattr(workflow_retries, "_put_back", watched)
    found = await put_back(stage.database, asked)
    assert {each for each, _, _ in found} == {task_id for ids in stored for task_id in ids.values()}
    assert looked == [8, 8, 4]


async def test_a_transaction_puts_back_no_more_than_it_may_hold(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A bulk operation goes on with fewer tasks then, as after a timeout."""
    monkeypatch.setattr(workflow_retries, "TOGETHER", 7)
    stored = [await _failed(stage) for _ in range(2)]
    with pytest.raises(StorageUnavailable) as refused:
        async with stage.database.transaction() as transaction:
            await put_back(transaction, [ids[""] for ids in stored])
    assert refused.value.timed_out
    async with stage.database.transaction() as transaction:
        assert len(await put_back(transaction, [stored[0][""]])) == 4
