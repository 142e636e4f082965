"""The graph of a workflow while its body runs: which nodes were made, and what each is given."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from hyrex.backend.bodies import BODIES, CURRENT_BODY
from hyrex.errors import WorkflowInvalid
from hyrex.workflows.node import Binding, NodeTask, WorkflowNode
from hyrex.workflows.references import ResultOf, refuse_nodes_in, results_in

__all__ = ["Building", "bare_node", "building", "current_building", "link", "made_node"]


class Building:
    """The nodes that a workflow's body has made so far, in order."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.nodes: list[WorkflowNode[Any]] = []
        self._bare: dict[int, WorkflowNode[Any]] = {}

    def make(self, task: NodeTask, arguments: Mapping[str, Any]) -> WorkflowNode[Any]:
        """Add a node of a task with these arguments."""
        given: dict[str, Any] = {}
        bindings: list[Binding] = []
        for name, value in arguments.items():
            if isinstance(value, ResultOf):
                bindings.append(Binding(name, value.node))
            elif (listed := results_in(value)) is not None:
                bindings += [Binding(name, each.node, listed=True) for each in listed]
            else:
                refuse_nodes_in(value, task._spec.config.name, name)
                given[name] = value
        node: WorkflowNode[Any] = WorkflowNode(self, task, given, bindings)
        for binding in bindings:
            node._wait_for(binding.upstream)
        self.nodes.append(node)
        return node

    def bare(self, task: NodeTask) -> WorkflowNode[Any]:
        """The one node of a task that is named in the body without arguments, made when it is named first."""
        found = self._bare.get(id(task))
        if found is None:
            found = self._bare[id(task)] = self.make(task, {})
        return found


@contextmanager
def building(name: str) -> Iterator[Building]:
    """Have the nodes that the enclosed code makes belong to a new graph."""
    found = Building(name)
    before = CURRENT_BODY.set(found)
    BODIES.append(found)
    try:
        yield found
    except WorkflowInvalid as error:
        if not str(error).startswith("workflow "):  # of what did not know whose body it stands in
            error.args = (f"workflow {name}: {error}",)
        raise
    finally:
        BODIES.remove(found)
        CURRENT_BODY.reset(before)


def current_building(what: str, instead: str = "write it in a function with @hy.workflow") -> Building:
    """The graph whose workflow's body runs now. Raises WorkflowInvalid, which says what to do `instead`."""
    found: Building | None = CURRENT_BODY.get()
    if found is None:
        raise WorkflowInvalid(f"{what} stands outside of a workflow's body; {instead}")
    return found


def bare_node(task: NodeTask) -> WorkflowNode[Any]:
    """The node of a task that stands in the body as it is."""
    return current_building(f">> of task {task._spec.config.name}").bare(task)


def made_node(task: NodeTask, args: tuple[Any, ...], kwargs: dict[str, Any]) -> WorkflowNode[Any]:
    """The node that `task.node(*args, **kwargs)` makes. Raises WorkflowInvalid, ArgumentInvalid."""
    name = task._spec.config.name
    into = current_building(f"{name}.node()")
    try:
        return into.make(task, task._coder.signature.bind(args, kwargs))
    except TypeError as error:
        raise WorkflowInvalid(
            f"workflow {into.name}: {error}; write {name}.node(...) with the arguments of a send, of which "
            "each may be the result of another node"
        ) from None


def link(upstream: Sequence[WorkflowNode[Any]], downstream: Sequence[WorkflowNode[Any]]) -> None:
    """Have each of these run after all of those. Raises WorkflowInvalid."""
    for node in downstream:
        for earlier in upstream:
            node._wait_for(earlier)
