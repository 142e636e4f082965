"""Nodes of a workflow as pictures show them: where each stands in one word, and when it waited and ran."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from hyrex.dashboard.graph.folding import WorkflowShape
from hyrex.dashboard.render.values import moment
from hyrex.transport.node_words import ENDED, UNSEEN, WORST_FIRST, node_word
from hyrex.v1 import task_pb2
from hyrex.v1 import workflow_service_pb2 as wire


@dataclass(frozen=True, slots=True)
class ShownNode:
    """One node. `ready_at`: when all for which it waits had ended; None before."""

    place: int
    name: str
    word: str
    task: task_pb2.Task
    approval: bool
    ready_at: datetime | None

    @property
    def is_seen(self) -> bool:
        """False for a node of a queue that the person may not see."""
        return bool(self.task.task_id)

    @property
    def ended_at(self) -> datetime | None:
        """When it ended; None while it lives."""
        if self.word not in ENDED or not self.task.runs:
            return None
        return moment(self.task.runs[-1], "finished_at")

    @property
    def runs(self) -> int:
        """How many runs it has had, the present one included."""
        return self.task.runs[-1].run_number + 1 if self.task.runs else 0


def graph_of(found: wire.GetWorkflowResponse) -> WorkflowShape:
    """What the picture's shape depends on."""
    return WorkflowShape(
        found.root_id,
        tuple(each.task.name for each in found.nodes),
        tuple(each.name for each in found.nodes),
        tuple(tuple((edge.node, edge.runs_anyway) for edge in each.upstreams) for each in found.nodes),
    )


def nodes_of(found: wire.GetWorkflowResponse) -> list[ShownNode]:
    """Every node, in the order in which they were sent: upstreams come first."""
    nodes: list[ShownNode] = []
    for place, each in enumerate(found.nodes):
        ends = [nodes[edge.node].ended_at for edge in each.upstreams]
        sent = moment(each.task, "submitted_at")
        known = [end for end in ends if end is not None]
        ready = None if len(known) < len(ends) or sent is None else max([sent, *known])
        nodes.append(ShownNode(place, each.name, node_word(each.task), each.task, each.approval, ready))
    return nodes


def worst(words: Counter[str]) -> str:
    """The word of several nodes."""
    return next((word for word in WORST_FIRST if words[word]), UNSEEN)


def counted(nodes: Sequence[ShownNode]) -> Counter[str]:
    """How many stand where."""
    return Counter(node.word for node in nodes)
