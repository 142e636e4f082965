"""Workflows: tasks that wait for one another, and what is stored of that with each.

Nothing of it is ever changed: whether a node may go on follows from where its upstreams stand.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Any, Final, NamedTuple

from hyrex_broker.domain.blocks import TaskBlock
from hyrex_broker.domain.model import CancelCause, LaneId, TaskId
from hyrex_broker.domain.states import TaskState

MOST_NODES: Final = 1000
MOST_UPSTREAMS: Final = 20_000
"""Of all nodes together."""
LIST_ENDING: Final = "[]"
"""A parameter with this ending is given the results of all upstreams that name it."""
ARGUMENTS_BYTES: Final = 64 * 1024
"""Each run of a node is given the workflow's arguments."""


class TaskKind(IntEnum):
    """Tasks that no worker runs. Numbers are stored."""

    ROOT = 1
    """It ends when the nodes of its workflow have."""
    OUTSIDE = 2
    """It waits for a call from outside."""


class Edge(NamedTuple):
    """An upstream that a node waits for: its place among the nodes, and its id."""

    place: int
    task_id: TaskId
    parameter: str = ""
    runs_anyway: bool = False


class SentNode(NamedTuple):
    """A node as it was sent."""

    task_id: TaskId
    name: str
    edges: Sequence[Edge]
    approval: bool = False


@dataclass(frozen=True, slots=True)
class Workflow:
    """A workflow that may be stored: its graph, and its tasks as blocks, the root's among them."""

    root_id: TaskId
    name: str
    nodes: Sequence[SentNode]
    fail_fast: bool
    blocks: Sequence[TaskBlock]
    key: str | None = None
    """The root's idempotency key."""

    def names(self) -> dict[TaskId, str]:
        """What nodes are called."""
        return {node.task_id: node.name for node in self.nodes}


class StoredNode(NamedTuple):
    """What `task` has of a root or a node beside its task."""

    kind: TaskKind | None
    upstreams: Sequence[TaskId]
    """The last one first."""
    downstreams: Sequence[TaskId] | None
    """Of a root none."""
    words: dict[str, Any]
    """What the column `workflow` says."""


def stored(workflow: Workflow) -> dict[TaskId, StoredNode]:
    """What is stored of a workflow's root and nodes."""
    followers: dict[TaskId, dict[TaskId, None]] = {node.task_id: {} for node in workflow.nodes}
    for node in workflow.nodes:
        for edge in node.edges:
            followers[edge.task_id][node.task_id] = None
    found = {node.task_id: _node(node, list(followers[node.task_id])) for node in workflow.nodes}
    sinks = {node.name: node.task_id for node in workflow.nodes if not followers[node.task_id]}
    words: dict[str, Any] = {"nodes": len(workflow.nodes), "sinks": sinks}
    if workflow.fail_fast:
        words["fail_fast"] = True
    last_first = [node.task_id for node in reversed(workflow.nodes)]
    found[workflow.root_id] = StoredNode(TaskKind.ROOT, last_first, None, words)
    return found


def _node(node: SentNode, followers: Sequence[TaskId]) -> StoredNode:
    words: dict[str, Any] = {"node": node.name}
    kind = TaskKind.OUTSIDE if node.approval else None
    if not node.edges:
        return StoredNode(kind, (), followers, words)
    if _is_plain(node.edges):
        return StoredNode(kind, [edge.task_id for edge in reversed(node.edges)], followers, words)
    words["edges"] = [
        [edge.place, edge.task_id, edge.parameter, "1" if edge.runs_anyway else "0"] for edge in node.edges
    ]
    if any(edge.parameter for edge in node.edges):
        words["binds"] = True
    upstreams = {edge.place: edge.task_id for edge in node.edges}
    return StoredNode(kind, [upstreams[each] for each in sorted(upstreams, reverse=True)], followers, words)


def _is_plain(edges: Sequence[Edge]) -> bool:
    """Return True if the edges are no more than a list of upstreams in the order of their places."""
    before = -1
    for place, _, parameter, runs_anyway in edges:
        if parameter or runs_anyway or place <= before:
            return False
        before = place
    return True


def edges_of(words: Mapping[str, Any]) -> list[Edge]:
    """The edges that the column `workflow` of a node has, where they are not plain ones."""
    return [
        Edge(place, TaskId(task_id), parameter, anyway == "1")
        for place, task_id, parameter, anyway in words.get("edges", ())
    ]


class Became(IntEnum):
    """What became of a node or a root. Numbers are those of `advance`; 10 and an outcome: it has ended so."""

    READY = 1
    KEYED = 2
    """It waits for a look at its concurrency key."""
    LATER = 3
    """It waits for its delay."""
    OUTSIDE = 4
    """It waits for a call from outside."""
    GIVEN_UP = 9
    """It lives, and is to be cancelled."""


ENDED: Final = 10


class Decided(NamedTuple):
    """What became of one node or root."""

    task_id: TaskId
    became: int
    lane: LaneId
    rank: int


@dataclass(frozen=True, slots=True)
class StoredWorkflow:
    """A stored workflow: its root, and its nodes in the order in which they were sent."""

    root_id: TaskId
    nodes: Sequence[TaskId]
    fail_fast: bool


class NodeStanding(NamedTuple):
    """Where nodes stand alike."""

    state: TaskState
    cause: CancelCause | None
    """Of cancelled ones."""


class StandingNodes(NamedTuple):
    """So many nodes of one queue stand alike."""

    queue: str
    standing: NodeStanding
    nodes: int
