"""What nodes of workflows are given is read and sent in portions, however much it is together."""

from collections.abc import Sequence

import pytest

from hyrex_broker.domain.ids import HexId
from hyrex_broker.engine.dispatch import large_payloads as deliveries
from hyrex_broker.storage.workflows import WorkflowStore
from tests.integration.engine.bench import Bench
from tests.integration.engine.workflow_runs import begun, sent

LARGE = b"1" * 100_000


def portions(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many runs each look covered."""
    covered: list[int] = []
    real = WorkflowStore.runs_of

    async def runs_of(
        store: WorkflowStore, task_ids: Sequence[HexId], most_bytes: int, most_bound: int
    ) -> object:
        found, count = await real(store, task_ids, most_bytes, most_bound)
        covered.append(count)
        return found, count

    monkeypatch.setattr(WorkflowStore, "runs_of", runs_of)
    monkeypatch.setattr(deliveries, "SLICE_BYTES", 250_000)
    return covered


async def test_a_result_that_many_nodes_are_given_is_sent_to_few_at_a_time(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    portions(monkeypatch)
    names = [f"n{number}" for number in range(7)]
    runs = await begun(bench, sent({"a": []} | {name: ["a=x"] for name in names}), 10)
    await runs.step(result=LARGE)
    given = (await runs.link.until_runs(8))[1:]
    assert {runs.name_of(run) for run in given} == set(names)
    assert {run.node.results[0].result for run in given if run.node} == {LARGE}
    assert max(len(sent_together) for _, sent_together in runs.link.frames) == 2


async def test_results_of_many_nodes_are_read_in_portions(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    covered = portions(monkeypatch)
    graph: dict[str, list[str]] = {"last": []}
    graph |= {f"a{number}": [] for number in range(6)}
    graph |= {f"b{number}": ["last", f"a{number}=x", "a0=y"] for number in range(6)}
    runs = await begun(bench, sent(graph), 10)
    names = [(await runs.next()) for _ in range(7)]
    for name, run in sorted(names, key=lambda each: each[0]):
        await runs.end(run, result=name.encode() + LARGE)
    del covered[:]
    given = {runs.name_of(run): run for run in (await runs.link.until_runs(13))[7:]}
    for number in range(6):
        run = given[f"b{number}"]
        assert run.node is not None
        values = {each.parameter: each.result for each in run.node.results}
        assert values == {"x": f"a{number}".encode() + LARGE, "y": b"a0" + LARGE}
    assert sum(covered) == 6
    # Two results as far as the limit goes, and as many again for whole nodes.
    assert max(covered) <= 4


async def test_what_many_nodes_are_given_is_read_for_some_at_a_time(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    covered = portions(monkeypatch)
    monkeypatch.setattr(deliveries, "SLICE_BYTES", 8_000_000)
    monkeypatch.setattr(deliveries, "_BOUND_AT_ONCE", 2)
    graph: dict[str, list[str]] = {"a": []}
    graph |= {f"n{number}": ["a=x"] if number % 2 else ["a"] for number in range(9)}
    runs = await begun(bench, sent(graph), 10)
    await runs.step(result=b"7")
    given = (await runs.link.until_runs(10))[1:]
    found = {runs.name_of(run): [each.result for each in run.node.results] for run in given if run.node}
    assert found == {name: [b"7"] if edge == ["a=x"] else [] for name, edge in list(graph.items())[1:]}
    # Four of the nine are given something; in which order is chance.
    assert sum(covered) == 10
    assert len(covered) >= 3, covered
