"""Groups of assignments at the worker: each column by its rule, and nothing guessed where they do not fit."""

from uuid import UUID

import pytest

from hyrex.v1 import worker_service_pb2 as wire
from hyrex.worker.shared.runs import NodeOfRun, Run
from hyrex.worker.stream.columns import block_from
from tests.support.columns import packed

IDS = [str(UUID(int=number)) for number in (1, 2, 3)]


def group(**columns: object) -> wire.AssignmentGroup:
    """Three runs."""
    made = {"task_ids": packed(IDS), "tokens": [1, 2, 3], "payloads": [b"a", b"b", b"c"], "name": "work"}
    return wire.AssignmentGroup(**(made | columns))  # type: ignore[arg-type]


def runs_from(assigned: wire.AssignmentGroup) -> list[Run]:
    """Each run of a group."""
    block = block_from(assigned)
    return [block.run(place) for place in range(len(block))]


def test_column_without_values_means_the_default_for_every_run() -> None:
    runs = runs_from(group())
    assert [(run.task_id, run.token, run.payload) for run in runs] == [
        (IDS[0], 1, b"a"),
        (IDS[1], 2, b"b"),
        (IDS[2], 3, b"c"),
    ]
    assert {(run.run_number, run.parent_id, run.submitted_ns) for run in runs} == {(0, "", 0)}
    assert [run.root_id for run in runs] == IDS
    assert {run.headers for run in runs} == {None}


def test_column_with_one_value_gives_it_to_every_run() -> None:
    headers = wire.AssignmentGroup().headers.add()
    headers.headers["a"] = "b"
    shared = group(run_numbers=[7], parent_ids=packed(IDS[:1]), root_ids=packed(IDS[:1]), headers=[headers])
    runs = runs_from(shared)
    assert [(run.run_number, run.parent_id, run.root_id) for run in runs] == [(7, IDS[0], IDS[0])] * 3
    assert [run.headers for run in runs] == [{"a": "b"}] * 3


def test_zeros_in_a_column_of_ids_mean_none() -> None:
    runs = runs_from(group(parent_ids=packed(["", IDS[0], ""]), root_ids=packed(["", IDS[0], ""])))
    assert [run.parent_id for run in runs] == ["", IDS[0], ""]
    assert [run.root_id for run in runs] == [IDS[0], IDS[0], IDS[2]]


@pytest.mark.parametrize(
    ("packed_traces", "expected"),
    [
        (b"", [b""] * 3),
        (b"t" * 26, [b"t" * 26] * 3),
        (b"t" * 26 + bytes(26) + b"u" * 26, [b"t" * 26, b"", b"u" * 26]),
    ],
)
def test_trace_context_is_that_of_the_run(packed_traces: bytes, expected: list[bytes]) -> None:
    assert [run.trace_context for run in runs_from(group(trace_contexts=packed_traces))] == expected


@pytest.mark.parametrize(
    "columns",
    [
        {"task_ids": packed(IDS[:2])},
        {"task_ids": packed(IDS)[:-1]},
        {"payloads": [b"a"]},
        {"run_numbers": [1, 2]},
        {"parent_ids": packed(IDS[:2])},
        {"submitted_at_us": [1, 2, 3, 4]},
        {"trace_contexts": bytes(2 * 26)},
    ],
)
def test_columns_that_do_not_fit_each_other_are_not_understood(columns: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="for 3 runs"):
        block_from(group(**columns))


def test_nodes_of_workflows_are_a_column_of_which_some_may_be_empty() -> None:
    result = wire.UpstreamResult(parameter="x", result=b"1", task_name="f")
    nodes = [
        wire.NodeRun(workflow="flow", node="a", results=[result], payload=b"{}", codec="zip"),
        wire.NodeRun(),
    ]
    runs = block_from(group(nodes=[*nodes, wire.NodeRun()]))
    assert runs.node(0) == NodeOfRun("flow", "a", (("x", b"1", "f"),), b"{}", "zip")
    assert (runs.node(1), runs.run(0).node, runs.run(2).node) == (None, runs.node(0), None)
    with pytest.raises(ValueError, match="a column of 2 values for 3 runs"):
        block_from(group(nodes=nodes))
