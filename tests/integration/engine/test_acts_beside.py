"""Retries and cancels of a workflow beside one another, on connections of their own."""

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest

from hyrex_broker.domain.model import Outcome, RetryOutcome, TaskId
from hyrex_broker.storage.workflow_retries import put_back
from tests.integration.engine.bench import Bench
from tests.integration.engine.workflow_runs import Runs, begun, sent

REQUEUED, NOT_FINAL = RetryOutcome.REQUEUED, RetryOutcome.NOT_FINAL


async def failed(bench: Bench) -> Runs:
    """A workflow that has ended: one node completed, two failed."""
    runs = await begun(bench, sent({"good": [], "bad": [], "worse": []}), capacity=3)
    given = dict([await runs.next() for _ in range(3)])
    await runs.end(given["good"])
    for name in ("bad", "worse"):
        await runs.end(given[name], Outcome.FAILED)
    assert await runs.ended() == Outcome.FAILED
    return runs


async def beside(bench: Bench, first: Sequence[TaskId], second: Sequence[TaskId]) -> list[RetryOutcome]:
    """What a retry is told that waits for the commit of another one."""
    async with bench.database.transaction() as transaction:
        assert await put_back(transaction, first)
        asked = asyncio.create_task(bench.engine.cancels.retry(second))
        async with asyncio.timeout(60):
            while not await bench.database.fetch("select from pg_locks where not granted", read=True):
                await asyncio.sleep(0.01)
    answer = await asked
    bench.engine.follow.ended([*first, *second], ())
    return answer


async def runs_of(runs: Runs) -> dict[str, int]:
    """How many runs each node has had or has."""
    sql = (
        "select (select count(*) from task_run where task_id = $1)"
        " + (select count(*) from live where task_id = $1) as runs"
    )
    found = {name: await runs.bench.database.fetchrow(sql, task_id) for name, task_id in runs.ids.items()}
    return {name: row["runs"] for name, row in found.items() if row is not None}


async def test_a_retry_of_a_root_beside_that_of_a_node_is_not_told_that_all_runs_again(bench: Bench) -> None:
    runs = await failed(bench)
    assert await beside(bench, [runs.ids["bad"]], [runs.root]) == [NOT_FINAL]
    assert await runs_of(runs) == {"good": 1, "bad": 2, "worse": 1}
    assert await runs.step() == "bad"
    await runs.until(lambda: has_ended(runs))
    assert await bench.engine.cancels.retry([runs.root]) == [REQUEUED]
    assert await runs.step() == "worse"
    assert await runs.ended() == Outcome.COMPLETED


async def has_ended(runs: Runs) -> bool:
    return not await runs.left()


@pytest.mark.parametrize("node", ["", "bad"])
async def test_two_retries_that_put_back_the_same_are_both_told_so(bench: Bench, node: str) -> None:
    runs = await failed(bench)
    asked = runs.ids[node] if node else runs.root
    assert await beside(bench, [runs.root], [asked]) == [REQUEUED]
    assert await runs_of(runs) == {"good": 1, "bad": 2, "worse": 2}
    assert sorted([await runs.step(), await runs.step()]) == ["bad", "worse"]
    assert await runs.ended() == Outcome.COMPLETED


async def test_a_retry_of_a_node_that_completed_runs_it_again_beside_that_of_the_root(bench: Bench) -> None:
    runs = await failed(bench)
    assert await beside(bench, [runs.root], [runs.ids["good"]]) == [REQUEUED]
    assert await runs_of(runs) == {"good": 2, "bad": 2, "worse": 2}


async def test_a_broker_that_is_late_with_the_nodes_of_a_cancel_leaves_those_that_a_retry_put_back(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The root's flag is committed; another broker cancels the nodes, and somebody retries the workflow."""
    cancels = bench.engine.cancels
    flag, may_go_on, is_late = cancels._store.cancel_blocked, asyncio.Event(), asyncio.Event()

    async def late(task_ids: Sequence[TaskId], reason: str) -> Any:
        found = await flag(task_ids, reason)
        if not is_late.is_set():
            is_late.set()
            await may_go_on.wait()
        return found

    monkeypatch.setattr(cancels._store, "cancel_blocked", late)
    runs = await begun(bench, sent({"a": [], "b": ["a"]}), capacity=0)
    asked = asyncio.create_task(cancels.cancel([runs.root], "enough"))
    await is_late.wait()
    bench.engine.follow.ended([runs.root], ())
    assert await runs.ended() == Outcome.CANCELLED
    assert await cancels.retry([runs.root]) == [REQUEUED]
    may_go_on.set()
    await asked
    assert await runs.left() == ["", "a", "b"]
