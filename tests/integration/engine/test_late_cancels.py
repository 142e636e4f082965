"""A broker that is late to cancel the nodes of a workflow that was given up: it cancels none that was put
back."""

import asyncio
from collections.abc import Sequence

import pytest

from hyrex_broker.domain.model import Outcome, RetryOutcome, TaskId
from tests.integration.engine.bench import Bench
from tests.integration.engine.workflow_runs import begun, sent


async def test_a_broker_that_stood_still_cancels_no_node_that_a_retry_has_put_back(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is late with what it has decided, and another broker cancels the node in its place."""
    nodes, cancels = bench.engine.nodes, bench.engine.cancels
    may_go_on, is_late = asyncio.Event(), asyncio.Event()
    store = nodes._store
    look = store.given_up

    async def late(task_ids: Sequence[TaskId]) -> list[TaskId]:
        is_late.set()
        await may_go_on.wait()
        return await look(task_ids)

    monkeypatch.setattr(store, "given_up", late)
    runs = await begun(bench, sent({"a": [], "b": []}, fail_fast=True), capacity=2)
    first = dict([await runs.next() for _ in "ab"])
    await runs.end(first["a"], Outcome.FAILED)
    await is_late.wait()
    await cancels.cancel([runs.ids["b"]], "another broker was told too")
    await runs.end(first["b"], Outcome.CANCELLED)
    assert await runs.ended() == Outcome.FAILED
    assert await cancels.retry([runs.root]) == [RetryOutcome.REQUEUED]
    again = dict([await runs.next() for _ in "ab"])
    may_go_on.set()
    async with asyncio.timeout(60):
        while nodes._given_up:
            await asyncio.sleep(0.01)
    assert await bench.database.fetch("select from lease where cancel_at is not null") == []
    for run in again.values():
        await runs.end(run)
    assert await runs.ended() == Outcome.COMPLETED
