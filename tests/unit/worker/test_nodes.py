"""Runs of workflows' nodes in a child: results of others become arguments, whatever the runs share."""

import pickle
from typing import Any

import pytest

from hyrex import ArgumentInvalid, HyrexRegistry
from hyrex.arguments.limits import LOT
from hyrex.backend.bound import with_results
from hyrex.worker.child.execution import Execution, prepare
from hyrex.worker.child.queued_block import QueuedBlock
from hyrex.worker.shared.outcome import Failed
from hyrex.worker.shared.runs import NodeOfRun, RunBlock, RunTerms

hy = HyrexRegistry()
ROOT = "018f0000-0000-7000-8000-000000000000"


@hy.task
def add(n: int, more: list[int] = [], text: str = "") -> int:  # noqa: B006  # never changed
    return n + sum(more)


def queued(payloads: list[bytes], nodes: list[NodeOfRun | None]) -> QueuedBlock:
    count = len(payloads)
    block = RunBlock(
        RunTerms("add", "default"), list(range(count)), bytes([1] * 16 * count), payloads, nodes=nodes
    )
    return QueuedBlock(block, 0, "worker")


def node(*results: tuple[str, bytes, str], arguments: bytes = b"") -> NodeOfRun:
    return NodeOfRun("flow", "add", results, arguments)


def arguments(block: QueuedBlock, place: int) -> dict[str, Any]:
    execution = Execution(block, place, place, 0)
    refused = prepare(execution, hy.tasks)
    assert refused is None, refused
    return dict(execution.arguments)


def test_each_run_of_a_full_block_is_given_the_results_of_its_own_upstreams() -> None:
    """Arguments of many runs are decoded at once; not before results are put into them."""
    count = 2 * LOT
    nodes: list[NodeOfRun | None] = [
        node(("more[]", b"%d" % n, "f"), ("more[]", b"1", "f")) for n in range(count)
    ]
    block = queued([b'{"n":%d}' % n for n in range(count)], nodes)
    assert [arguments(block, n) for n in range(count)] == [{"n": n, "more": [n, 1]} for n in range(count)]


def test_nodes_and_other_runs_may_share_a_block_and_parts_of_it_keep_theirs() -> None:
    block = queued([b'{"n":1}', b"{}", b"{}"], [None, node(("n", b"2", "f")), node(("n", b"3", "f"))])
    part = QueuedBlock(block.block.taking([2, 0]), 0, "worker")
    assert [arguments(part, place) for place in (0, 1)] == [{"n": 3}, {"n": 1}]
    assert arguments(block, 1) == {"n": 2}


def test_a_result_that_does_not_fit_fails_the_run_by_name() -> None:
    execution = Execution(queued([b"{}"], [node(("n", b'"x"', "f"))]), 0, 0, 0)
    outcome = prepare(execution, hy.tasks)
    assert isinstance(outcome, Failed)
    assert (outcome.error.type, outcome.retryable) == ("ArgumentInvalid", False)
    assert outcome.error.message.startswith("add: n:")


def test_a_result_that_no_app_here_can_decode_is_given_back() -> None:
    execution = Execution(queued([b"{}"], [node(("n", b'{"hyrex.codec":"x","data":"AA=="}', "f"))]), 0, 0, 0)
    assert "encoded by a codec" in str(prepare(execution, hy.tasks))


@pytest.mark.parametrize(
    ("payload", "results", "expected"),
    [
        (b"{}", [("a", b"1")], b'{"a":1}'),
        (b'{"b":2}', [("a", b"1")], b'{"b":2,"a":1}'),
        (b' { "b": 2 } ', [], b'{"b": 2}'),
        (b"{}", [("a[]", b"1"), ("b", b"[2]"), ("a[]", b"")], b'{"b":[2],"a":[1,null]}'),
        (b"{}", [("naïve", b"1"), ('"', b"2")], b'{"na\xc3\xafve":1,"\\"":2}'),
    ],
)
def test_results_are_put_into_the_object(
    payload: bytes, results: list[tuple[str, bytes]], expected: bytes
) -> None:
    assert with_results("add", payload, results) == expected


def test_a_payload_that_is_no_object_takes_no_results() -> None:
    with pytest.raises(ArgumentInvalid, match="must be a JSON object"):
        with_results("add", b"[1]", [("a", b"1")])


def test_a_context_survives_a_copy_with_its_workflow() -> None:
    block = queued([b'{"n":1}'], [node(arguments=b'{"words":["a"]}')])
    block.block.root_ids = bytes.fromhex(ROOT.replace("-", ""))
    context = Execution(block, 0, 0, 0)()
    again = pickle.loads(pickle.dumps(context))
    for told in (context.workflow, again.workflow):
        assert told is not None
        assert (str(told.id), told.name, told.node, told.arguments) == (ROOT, "flow", "add", {"words": ["a"]})
