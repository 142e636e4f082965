"""A workflow's graph, checked: its nodes in an order in which each comes after those that it waits for."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from heapq import heappop, heappush
from itertools import count
from typing import Any, Final

from hyrex.backend.outgoing_workflow import Upstream, sinks_of
from hyrex.backend.send_spec import SendSpec
from hyrex.errors import WorkflowInvalid
from hyrex.workflows.arguments import checked_payload_of, spec_of
from hyrex.workflows.building import Building
from hyrex.workflows.node import WorkflowNode
from hyrex.workflows.results import Template, template_of

__all__ = ["MOST_NODES", "Graph", "graph_of"]

MOST_NODES: Final = 1000
"""As the broker's own."""


@dataclass(frozen=True, slots=True, repr=False)
class Graph:
    """What a workflow's body made: the nodes' names, tasks and arguments, and what each waits for.

    `payloads` have the arguments that are known; `result` says of which nodes' results the workflow's is
    made.
    """

    names: tuple[str, ...]
    specs: tuple[SendSpec, ...]
    payloads: tuple[bytes, ...]
    upstreams: tuple[tuple[Upstream, ...], ...]
    result: Template

    def __repr__(self) -> str:
        """Each node with what it waits for."""
        lines = []
        for name, upstreams in zip(self.names, self.upstreams, strict=True):
            before = dict.fromkeys(self.names[each.node] for each in upstreams)
            lines.append(f"{name} after {', '.join(before)}" if before else name)
        return f"<graph: {'; '.join(lines)}>"

    @property
    def sinks(self) -> tuple[str, ...]:
        """The names of the nodes that no other one waits for."""
        return tuple(self.names[at] for at in sinks_of(self.upstreams))


def graph_of(made: Building, returned: object) -> Graph:
    """The graph of a body that has run, and what it returned. Raises WorkflowInvalid, ArgumentInvalid."""
    if not made.nodes:
        raise WorkflowInvalid(
            f"workflow {made.name} has no nodes; its body wires some, for instance with a >> b or "
            "a.node(...); a call, a(...), runs the function here, and a.send(...) sends a task of its own"
        )
    if len(made.nodes) > MOST_NODES:
        raise WorkflowInvalid(
            f"workflow {made.name} has {len(made.nodes):,} nodes, and at most {MOST_NODES:,} are sent "
            "together; have a node send the rest as tasks or as a workflow of their own"
        )
    _give_names(made)
    nodes = _in_order(made)
    places = {node: at for at, node in enumerate(nodes)}
    payloads = [checked_payload_of(node) for node in nodes]
    return Graph(
        names=tuple(node.name for node in nodes),
        specs=tuple(spec_of(node, payload) for node, payload in zip(nodes, payloads, strict=True)),
        payloads=tuple(payloads),
        upstreams=tuple(tuple(_upstreams(node, places)) for node in nodes),
        result=template_of(made, returned),
    )


def _give_names(made: Building) -> None:
    """Name the nodes that have no name by their tasks, and by a number from the second of a task on."""
    taken: dict[str, WorkflowNode[Any]] = {}
    for node in made.nodes:
        if node._name is not None and taken.setdefault(node._name, node) is not node:
            raise WorkflowInvalid(
                f"workflow {made.name} has two nodes that are named {node._name!r}; give one of them "
                "another name"
            )
    for node in made.nodes:
        if node._name is None:
            name = node._task._spec.config.name
            candidates = (f"{name}-{number}" if number > 1 else name for number in count(1))
            node._name = next(each for each in candidates if each not in taken)
            taken[node._name] = node


def _in_order(made: Building) -> list[WorkflowNode[Any]]:
    """The nodes, each after those that it waits for, else as they were made. Raises WorkflowInvalid."""
    numbers = {node: number for number, node in enumerate(made.nodes)}
    waiting = {node: len(node._after) for node in made.nodes}
    followers: dict[WorkflowNode[Any], list[WorkflowNode[Any]]] = {node: [] for node in made.nodes}
    for node in made.nodes:
        for upstream in node._after:
            followers[upstream].append(node)
    free = [numbers[node] for node in made.nodes if not waiting[node]]
    found: list[WorkflowNode[Any]] = []
    while free:
        node = made.nodes[heappop(free)]
        found.append(node)
        for follower in followers[node]:
            waiting[follower] -= 1
            if not waiting[follower]:
                heappush(free, numbers[follower])
    if len(found) < len(made.nodes):
        raise WorkflowInvalid(
            f"workflow {made.name} has a circle: {_circle(made, set(found))}; take one of these edges away, "
            "or no node of it can ever begin"
        )
    return found


def _circle(made: Building, done: set[WorkflowNode[Any]]) -> str:
    """The names along a circle, in the order in which its nodes would run."""
    node = next(node for node in made.nodes if node not in done)
    seen: list[WorkflowNode[Any]] = []
    while node not in seen:
        seen.append(node)
        node = next(upstream for upstream in node._after if upstream not in done)
    circle = [*seen[seen.index(node) :], node]
    return " >> ".join(each.name for each in reversed(circle))


def _upstreams(node: WorkflowNode[Any], places: Mapping[WorkflowNode[Any], int]) -> Iterator[Upstream]:
    """What it waits for: those whose results are arguments first, in the order in which they are given."""
    bound = {binding.upstream for binding in node._bindings}
    for binding in node._bindings:
        parameter = f"{binding.parameter}[]" if binding.listed else binding.parameter
        yield Upstream(places[binding.upstream], parameter, node.goes_on_after(binding.upstream))
    for upstream in node._after:
        if upstream not in bound:
            yield Upstream(places[upstream], "", node.goes_on_after(upstream))
