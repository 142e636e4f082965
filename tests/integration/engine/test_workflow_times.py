"""The time in which a node must begin: it starts anew when a retry puts the node back."""

from datetime import UTC, datetime, timedelta

import pytest

from hyrex_broker.domain.model import CancelCause, CompleteOutcome, Outcome, OutsideEnd, RetryOutcome, TaskId
from hyrex_broker.storage.expiry import ExpiryStore
from tests.integration.engine.bench import Bench
from tests.integration.engine.stored_rows import until_rows
from tests.integration.engine.workflow_runs import Runs, sent, store

YES, NO = OutsideEnd(Outcome.COMPLETED, b"true"), OutsideEnd(Outcome.FAILED, error_type="Refused")
ZERO = datetime(1970, 1, 1, tzinfo=UTC)
GRAPHS: dict[str, dict[str, list[str]]] = {"nothing": {"x": []}, "another": {"a": [], "x": ["a"]}}


async def _asked(bench: Bench, graph: dict[str, list[str]]) -> Runs:
    """A workflow whose node x is an approval that waits for at most an hour."""
    request = sent(graph, x={"outside": True})
    request.nodes[-1].task.expires_in.FromTimedelta(timedelta(hours=1))
    await store(bench, request)
    _, link = await bench.worker()
    ids = {node.name: TaskId(node.task.task_id) for node in request.nodes}
    runs = Runs(bench, link, TaskId(request.root.task_id), ids)
    if "a" in graph:
        await runs.step()
    await _until_it_waits(runs)
    return runs


async def _until_it_waits(runs: Runs) -> None:
    sql = f"select kind from blocked where task_id = '{runs.ids['x']}'"
    await until_rows(runs.bench, sql, [(2,)])


async def _let_pass(runs: Runs, which: str = "min") -> None:
    """The earliest or the latest of its times is over."""
    over = "now() - interval '1 second'"
    await runs.bench.database.fetch(
        f"update task set expires_at = {over} where id = $1"
        f" and expires_at = (select {which}(expires_at) from expiry)",
        runs.ids["x"],
    )
    await runs.bench.database.fetch(
        f"update expiry set look_at = {over}, expires_at = {over}"
        f" where expires_at = (select {which}(expires_at) from expiry)"
    )


@pytest.mark.parametrize("waits_for", GRAPHS)
async def test_an_approval_that_expired_waits_again_after_a_retry(bench: Bench, waits_for: str) -> None:
    """It waited for ever, and nobody could end it, where nothing was before it."""
    runs = await _asked(bench, GRAPHS[waits_for])
    await _let_pass(runs)
    assert await runs.ended() == Outcome.FAILED
    assert await runs.state("x") == (Outcome.CANCELLED, CancelCause.EXPIRED)
    assert await bench.engine.cancels.retry([runs.root]) == [RetryOutcome.REQUEUED]
    await _until_it_waits(runs)
    assert await bench.engine.outside.complete([runs.ids["x"]], YES) == [CompleteOutcome.ENDED]
    assert await runs.ended() == Outcome.COMPLETED


@pytest.mark.parametrize("waits_for", GRAPHS)
async def test_a_retried_approval_does_not_expire_with_the_time_that_it_had_before(
    bench: Bench, waits_for: str
) -> None:
    runs = await _asked(bench, GRAPHS[waits_for])
    assert await bench.engine.outside.complete([runs.ids["x"]], NO) == [CompleteOutcome.ENDED]
    assert await runs.ended() == Outcome.FAILED
    assert await bench.engine.cancels.retry([runs.root]) == [RetryOutcome.REQUEUED]
    await _until_it_waits(runs)
    await _let_pass(runs)
    await ExpiryStore(bench.database).sweep(ZERO, 10)
    await _until_it_waits(runs)
    await _let_pass(runs, "max")
    assert await runs.ended() == Outcome.FAILED
    assert await runs.state("x") == (Outcome.CANCELLED, CancelCause.EXPIRED)
