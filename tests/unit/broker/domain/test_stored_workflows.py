"""What is stored of a workflow's nodes: edges only where their upstreams do not say all."""

from collections.abc import Sequence

import pytest

from hyrex_broker.domain.model import TaskId
from hyrex_broker.domain.workflows import Edge, SentNode, StoredNode, Workflow, edges_of, stored

A, B, C, ROOT = (TaskId(name) for name in ("a", "b", "c", "root"))


def _stored(edges: Sequence[Edge]) -> StoredNode:
    nodes = [SentNode(A, "a", ()), SentNode(B, "b", ()), SentNode(C, "c", edges)]
    return stored(Workflow(ROOT, "flow", nodes, False, []))[C]


def test_plain_edges_are_their_upstreams_the_last_one_first() -> None:
    node = _stored([Edge(0, A), Edge(1, B)])
    assert (node.upstreams, node.words) == ([B, A], {"node": "c"})


@pytest.mark.parametrize(
    "edges",
    [
        [Edge(1, B), Edge(0, A)],
        [Edge(0, A), Edge(0, A), Edge(1, B)],
        [Edge(0, A), Edge(1, B, runs_anyway=True)],
        [Edge(0, A, "x"), Edge(1, B)],
        [Edge(0, A), Edge(1, B), Edge(0, A, "x")],
    ],
    ids=str,
)
def test_others_are_kept_as_they_were_sent(edges: list[Edge]) -> None:
    node = _stored(edges)
    assert (list(node.upstreams), edges_of(node.words)) == ([B, A], edges)
    assert node.words.get("binds", False) is any(edge.parameter for edge in edges)


def test_a_root_knows_the_nodes_for_which_no_other_waits() -> None:
    nodes = [SentNode(A, "a", ()), SentNode(B, "b", ()), SentNode(C, "c", [Edge(0, A)])]
    root = stored(Workflow(ROOT, "flow", nodes, True, []))[ROOT]
    assert root.words == {"nodes": 3, "sinks": {"b": B, "c": C}, "fail_fast": True}
    assert root.upstreams == [C, B, A]
