"""Workflows through a whole engine: what runs when, what is skipped, and when a root ends."""

from hyrex_broker.domain.model import CancelCause, Outcome, SubmitAnswer, SubmitOutcome
from tests.integration.engine.bench import Bench
from tests.integration.engine.workflow_runs import begun, sent, store

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
    message = "3 of 4 nodes did not complete: a (failed), b (cancelled), c (cancelled)"
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
