"""Random workflows through a whole engine, of whose ends a part is never followed.

No node runs before those for which it waits have ended, none is left, and the root ends with the last one.
"""

import random
from collections import Counter
from collections.abc import Mapping, Sequence

import pytest

from hyrex_broker.domain.model import CancelCause, LaneId, Outcome, RetryOutcome, TaskId
from tests.integration.engine.bench import Bench
from tests.integration.engine.workflow_runs import Runs, begun, sent

BAD = (Outcome.FAILED, Outcome.TIMED_OUT)
Graph = Mapping[str, Sequence[str]]


def _graph(chance: random.Random) -> dict[str, list[str]]:
    nodes: dict[str, list[str]] = {}
    for number in range(chance.randint(1, 12)):
        others = chance.sample(list(nodes), min(len(nodes), chance.randint(0, 3)))
        nodes[f"n{number}"] = [other + chance.choice(["", "", "=p" + other, "!"]) for other in others]
    return nodes


def _plain(edge: str) -> str:
    return edge.rstrip("!").partition("=")[0]


def _expected(graph: Graph, bad: set[str]) -> dict[str, bool | None]:
    """Of each node whether it completes; None: it is skipped."""
    found: dict[str, bool | None] = {}
    for name, edges in graph.items():
        skipped = any(found[_plain(edge)] is not True and not edge.endswith("!") for edge in edges)
        found[name] = None if skipped else name not in bad
    return found


async def _run_all(runs: Runs, graph: Graph, bad: set[str], count: int) -> None:
    """Run so many nodes, each checked when it is assigned."""
    for _ in range(count):
        name, run = await runs.next()
        upstreams = [runs.ids[_plain(edge)] for edge in graph[name]]
        living = await runs.bench.database.fetch(
            "select from live where task_id = any ($1::uuid[])", upstreams
        )
        assert not living, f"{name} runs before its upstreams have ended"
        await runs.end(run, random.choice(BAD) if name in bad else Outcome.COMPLETED)


@pytest.mark.parametrize("seed", range(12))
async def test_random_workflows_end_as_their_graph_says(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    chance = random.Random(seed)
    graph = _graph(chance)
    bad = {name for name in graph if chance.random() < 0.25}
    follow = bench.engine.follow

    def told(lane: LaneId, task_ids: Sequence[TaskId]) -> None:
        if chance.random() < 0.7:
            follow.ended_in(lane, task_ids)
        else:
            follow.sweep_soon()

    monkeypatch.setattr(bench.engine.reports, "on_ended", told)
    runs = await begun(bench, sent(graph), capacity=chance.randint(1, 3))
    expected = _expected(graph, bad)
    await _run_all(runs, graph, bad, sum(each is not None for each in expected.values()))
    whole = all(each is True for each in expected.values())
    assert await runs.ended() == (Outcome.COMPLETED if whole else Outcome.FAILED)
    assert await runs.left() == []
    for name, each in expected.items():
        outcome, cause = await runs.state(name)
        assert (cause == CancelCause.SKIPPED) is (each is None)
        assert (outcome == Outcome.COMPLETED) is (each is True)
    if whole:
        return
    # A retry runs the others, and each of them once.
    before = Counter(runs.order)
    assert await bench.engine.cancels.retry([runs.root]) == [RetryOutcome.REQUEUED]
    again = {name for name, each in expected.items() if each is not True}
    await _run_all(runs, graph, set(), len(again))
    assert await runs.ended() == Outcome.COMPLETED
    assert Counter(runs.order) - before == Counter(again)
    ends = await bench.database.fetch(
        "select task_id from task_run r where final and not exists"
        " (select from reopen o where o.task_id = r.task_id and o.after_run_number = r.run_number)"
        " group by task_id having count(*) > 1"
    )
    assert ends == []
