"""Workflows through a whole engine: what runs when, what is skipped, and when a root ends."""

from datetime import UTC, datetime, timedelta

import pytest

from hyrex_broker.connected import tell_purged
from hyrex_broker.domain.model import (
    CancelCause,
    CancelOutcome,
    Outcome,
    OutsideEnd,
    RetryOutcome,
    SubmitAnswer,
    SubmitOutcome,
)
from hyrex_broker.storage.queues import QueueStore
from hyrex_broker.storage.reads import TaskReads
from tests.integration.engine.bench import Bench
from tests.integration.engine.workflow_runs import LIMIT, Runs, begun, sent, store

DIAMOND = {"a": [], "b": ["a=x"], "c": ["a"], "d": ["b=left", "c=right"]}
COMPLETED, FAILED, CANCELLED = int(Outcome.COMPLETED), int(Outcome.FAILED), int(Outcome.CANCELLED)


async def test_each_node_runs_when_those_before_it_have_and_the_root_ends_last(bench: Bench) -> None:
    runs = await begun(bench, sent(DIAMOND))
    order = [await runs.step() for _ in DIAMOND]
    assert order[0] == "a"
    assert order[3] == "d"
    assert await runs.ended() == COMPLETED
    assert await runs.result() == {"sinks": {"d": runs.ids["d"]}}
    assert await runs.left() == []


async def test_a_node_is_given_the_results_that_are_bound_to_its_parameters(bench: Bench) -> None:
    runs = await begun(bench, sent(DIAMOND))
    results = {"a": b"10", "b": b"20", "c": b"30", "d": b"40"}
    given = {}
    for _ in DIAMOND:
        name, run = await runs.next()
        assert run.node is not None
        assert (run.node.workflow, run.node.node) == ("flow", name)
        assert run.node.payload == b'{"day": 1}'
        given[name] = {each.parameter: each.result for each in run.node.results}
        await runs.end(run, result=results[name])
    assert given == {"a": {}, "b": {"x": b"10"}, "c": {}, "d": {"left": b"20", "right": b"30"}}


async def test_a_bad_end_skips_what_follows_and_the_root_names_it(bench: Bench) -> None:
    runs = await begun(bench, sent({"a": [], "b": ["a"], "c": ["b"], "e": []}), capacity=2)
    ends = {"a": Outcome.FAILED, "e": Outcome.COMPLETED}
    for _ in ends:
        name, run = await runs.next()
        await runs.end(run, ends[name])
    assert await runs.ended() == FAILED
    skipped = (CANCELLED, CancelCause.SKIPPED)
    assert (await runs.state("b"), await runs.state("c")) == (skipped, skipped)
    message = "3 of 4 nodes did not complete: a (failed), b (skipped), c (skipped)"
    assert await runs.result() == ("WorkflowFailed", message)


async def test_what_runs_anyway_runs_after_a_bad_end(bench: Bench) -> None:
    runs = await begun(bench, sent({"a": [], "b": ["a=x!"], "c": ["b"]}))
    assert await runs.step(Outcome.FAILED) == "a"
    name, run = await runs.next()
    assert name == "b"
    assert run.node is not None
    assert run.node.results == []
    await runs.end(run)
    assert await runs.step() == "c"
    assert await runs.ended() == FAILED


async def test_the_same_workflow_again_is_the_same_one(bench: Bench) -> None:
    request = sent(DIAMOND)
    first, again = await store(bench, request), await store(bench, request)
    assert isinstance(first, SubmitAnswer)
    assert first.outcome is SubmitOutcome.STORED
    assert isinstance(again, SubmitAnswer)
    assert again.outcome is SubmitOutcome.REPEATED


async def test_a_cancel_of_the_root_cancels_every_node_and_waits_for_what_runs(bench: Bench) -> None:
    runs = await begun(bench, sent({"a": [], "b": ["a"], "e": []}))
    name, run = await runs.next()
    assert await bench.engine.cancels.cancel([runs.root], "enough") == [CancelOutcome.REQUESTED]
    assert await runs.left() == ["", name]
    assert (await runs.state("b"))[0] == CANCELLED
    await runs.end(run, Outcome.CANCELLED)
    assert await runs.ended() == CANCELLED


async def test_a_cancelled_root_whose_nodes_complete_all_the_same_is_completed(bench: Bench) -> None:
    runs = await begun(bench, sent({"a": []}))
    _, run = await runs.next()
    await bench.engine.cancels.cancel([runs.root], "enough")
    await runs.end(run)
    assert await runs.ended() == COMPLETED


async def test_a_cancelled_node_is_a_bad_end_of_it(bench: Bench) -> None:
    runs = await begun(bench, sent({"a": [], "b": ["a"], "e": []}))
    assert await bench.engine.cancels.cancel([runs.ids["b"]], "enough") == [CancelOutcome.CANCELLED]
    assert {await runs.step(), await runs.step()} == {"a", "e"}
    assert await runs.ended() == FAILED


async def test_fail_fast_cancels_what_has_not_ended(bench: Bench) -> None:
    graph = {"a": [], "b": [], "c": ["b"], "e": ["b"]}
    runs = await begun(bench, sent(graph, fail_fast=True), capacity=2)
    two = dict([await runs.next(), await runs.next()])
    await runs.end(two["a"], Outcome.FAILED)
    await runs.until(lambda: _only(runs, ["", "b"]))
    flagged = await bench.database.fetch("select from lease where cancel_at is not null")
    assert len(flagged) == 1
    await runs.end(two["b"], Outcome.CANCELLED)
    assert await runs.ended() == FAILED


async def _only(runs: Runs, names: list[str]) -> bool:
    return await runs.left() == names


async def test_a_retry_of_the_root_runs_what_did_not_complete_and_nothing_else(bench: Bench) -> None:
    runs = await begun(bench, sent({"a": [], "b": ["a=x"], "c": ["b"], "e": []}))
    ends = {"b": Outcome.FAILED}
    for _ in range(3):
        name, run = await runs.next()
        await runs.end(run, ends.get(name, Outcome.COMPLETED))
    assert await runs.ended() == FAILED
    runs.order.clear()
    assert await bench.engine.cancels.retry([runs.root]) == [RetryOutcome.REQUEUED]
    name, run = await runs.next()
    assert run.node is not None
    assert [(each.parameter, each.result) for each in run.node.results] == [("x", b"1")]
    await runs.end(run)
    await runs.step()
    assert runs.order == ["b", "c"]
    assert await runs.ended() == COMPLETED


async def test_a_retry_of_a_node_whose_workflow_has_ended_puts_back_the_root_too(bench: Bench) -> None:
    runs = await begun(bench, sent({"a": [], "b": ["a"]}))
    await runs.step()
    await runs.step(Outcome.FAILED)
    assert await runs.ended() == FAILED
    assert await bench.engine.cancels.retry([runs.ids["b"]]) == [RetryOutcome.REQUEUED]
    assert await runs.step() == "b"
    assert await runs.ended() == COMPLETED


async def test_a_root_that_lives_is_not_retried(bench: Bench) -> None:
    runs = await begun(bench, sent({"a": [], "b": ["a"]}))
    assert await bench.engine.cancels.retry([runs.root]) == [RetryOutcome.NOT_FINAL]


async def test_a_purge_cancels_nodes_and_leaves_the_root_to_end_with_them(bench: Bench) -> None:
    runs = await begun(bench, sent({"a": [], "b": ["a"], "e": []}))
    name, run = await runs.next()
    until = datetime.now(UTC) + timedelta(hours=1)
    async for purged in QueueStore(bench.database).purge("default", "not needed", until):
        tell_purged(bench.engine, purged)
    assert await runs.left() == ["", name]
    await runs.end(run)
    assert await runs.ended() == FAILED
    assert await runs.state("b") == (CANCELLED, CancelCause.PURGED)


async def test_a_node_waits_for_its_delay_and_its_key_after_its_upstreams(bench: Bench) -> None:
    request = sent({"a": [], "b": ["a"], "c": ["a"]}, b={"concurrency_key": "k"}, c={"concurrency_key": "k"})
    request.nodes[1].task.delay.nanos = 1_000_000
    runs = await begun(bench, request, capacity=3)
    assert await runs.step() == "a"
    first, run = await runs.next()
    (waiting,) = await bench.database.fetch(
        "select kind, key is not null as keyed from blocked where kind is null"
    )
    assert waiting["keyed"]
    await runs.end(run)
    assert {first, await runs.step()} == {"b", "c"}
    assert await runs.ended() == COMPLETED


async def test_the_time_in_which_a_node_may_begin_starts_when_its_upstreams_have_ended(bench: Bench) -> None:
    request = sent({"a": [], "b": ["a"]})
    request.nodes[1].task.expires_in.seconds = 3600
    runs = await begun(bench, request)
    before = await bench.database.fetchrow("select expires_at from task where id = $1", runs.ids["b"])
    assert before is not None
    assert before["expires_at"] is None
    await runs.step()
    await runs.step()
    after = await bench.database.fetchrow("select expires_at from task where id = $1", runs.ids["b"])
    assert after is not None
    assert after["expires_at"] is not None
    assert await runs.ended() == COMPLETED


async def test_results_that_are_too_large_together_end_the_node_with_words(bench: Bench) -> None:
    runs = await begun(bench, sent({"a": [], "b": [], "c": ["a=x", "b=y"]}))
    half = b"1" * (LIMIT // 2)
    await runs.step(result=half)
    await runs.step(result=half)
    assert await runs.ended() == FAILED
    found = await bench.database.fetchrow("select error_type from task_run where task_id = $1", runs.ids["c"])
    assert found is not None
    assert found["error_type"] == "ResultsTooLarge"


async def test_an_approval_waits_for_a_call_when_its_upstreams_have_ended(bench: Bench) -> None:
    request = sent({"a": [], "b": ["a"], "c": ["b=x"]})
    request.nodes[1].approval = True
    runs = await begun(bench, request)
    await runs.step()
    await runs.until(lambda: bench.database.fetch("select from blocked where kind = 2"))
    await bench.engine.outside.complete([runs.ids["b"]], OutsideEnd(Outcome.COMPLETED, b'"yes"'))
    name, run = await runs.next()
    assert name == "c"
    assert run.node is not None
    assert [each.result for each in run.node.results] == [b'"yes"']
    await runs.end(run)
    assert await runs.ended() == COMPLETED


@pytest.mark.parametrize("done", [0, 1, 2])
async def test_what_nobody_has_followed_goes_on_by_the_sweep(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, done: int
) -> None:
    """Rule 23: ends of which nobody was told, of a first one that ended badly, of one in the middle, and of
    the last one."""
    runs = await begun(bench, sent({"a": [], "b": ["a"], "c": ["b"]}))
    for _ in range(done):
        await runs.step()
    with monkeypatch.context() as deaf:
        deaf.setattr(bench.engine.reports, "on_ended", lambda lane, task_ids: None)
        await runs.step(Outcome.FAILED if done == 0 else Outcome.COMPLETED)
    bench.engine.follow.sweep_soon()
    for _ in range(0 if done == 0 else 2 - done):
        await runs.step()
    assert await runs.ended() == (FAILED if done == 0 else COMPLETED)
    assert await runs.left() == []


async def test_a_node_that_fails_and_has_retries_is_not_at_its_end(bench: Bench) -> None:
    request = sent({"a": [], "b": ["a"]}, a={"max_retries": 1})
    request.nodes[0].task.retry_delay.seconds = 0
    runs = await begun(bench, request)
    assert [await runs.step(Outcome.FAILED), await runs.step(), await runs.step()] == ["a", "a", "b"]
    assert await runs.ended() == COMPLETED


async def test_it_is_told_for_which_nodes_a_node_and_a_root_wait(bench: Bench) -> None:
    runs = await begun(bench, sent({"a": [], "b": [], "c": ["a", "b"]}))
    reads = TaskReads(bench.database)
    assert await reads.awaited(runs.ids["c"], 10) == ["a", "b"]
    name = await runs.step()
    assert await reads.awaited(runs.ids["c"], 10) == [{"a": "b", "b": "a"}[name]]
    assert await reads.awaited(runs.root, 1) == [{"a": "b", "b": "a"}[name]]
    assert await reads.awaited(runs.ids[name], 10) == []


async def test_a_workflow_that_lives_is_kept_whole_by_retention(bench: Bench) -> None:
    """Rule 36: also its nodes that completed. Those of a workflow that has ended are not."""
    runs = await begun(bench, sent({"a": [], "b": ["a"]}))
    await runs.step()
    await runs.next()
    assert await _kept(bench) == {runs.root, *runs.ids.values()}
    await bench.engine.cancels.cancel([runs.root], "enough")
    await runs.end(runs.link.runs[-1])
    await runs.ended()
    assert await _kept(bench) == set()


async def _kept(bench: Bench) -> set[str]:
    rows = await bench.database.fetch(
        "select id::text"
        " from survivors($1, '00000000-0000-0000-0000-000000000000', 1000, false, true, '0', '{}')"
        " where kept",
        datetime.now(UTC).date(),
    )
    return {row["id"] for row in rows}
