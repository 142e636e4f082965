"""The operators that wire nodes: `a >> b`, `a >> [b, c]`, `[b, c] >> d`. Tasks and nodes have them."""

from collections.abc import Sequence
from typing import Any, TypeVar, overload

from hyrex.errors import WorkflowInvalid, loaded

__all__ = ["Linkable", "NodeGroup"]

L = TypeVar("L", bound="Linkable")


class Linkable:
    """What may stand in a workflow's body: a task (its one node there), a node, or several of them."""

    @overload
    def __rshift__(self, downstream: L) -> L: ...
    @overload
    def __rshift__(self, downstream: Sequence["Linkable"]) -> "NodeGroup": ...
    def __rshift__(self, downstream: "Linkable | Sequence[Linkable]") -> "Linkable":
        """Have what is on the right run after what is on the left, and return it. Raises WorkflowInvalid."""
        later = downstream if isinstance(downstream, Linkable) else NodeGroup(downstream)
        _link(self, later)
        return later

    def __rrshift__(self: L, upstream: Sequence["Linkable"]) -> L:
        """Run after all of a list. Raises WorkflowInvalid."""
        _link(NodeGroup(upstream), self)
        return self

    def _nodes(self) -> Sequence[Any]:
        """Its WorkflowNodes in the workflow whose body runs now. Raises WorkflowInvalid."""
        raise NotImplementedError


class NodeGroup(Linkable):
    """Several tasks or nodes that stand beside one another: `a >> [b, c]`."""

    def __init__(self, members: Sequence[Linkable]) -> None:
        if not isinstance(members, list | tuple) or not members:
            raise WorkflowInvalid(f">> wants a task, a node or a list of them, got {members!r}")
        for member in members:
            if not isinstance(member, Linkable):
                raise WorkflowInvalid(f">> wants tasks and nodes in its list, got {member!r}")
        self._members = tuple(members)

    def __repr__(self) -> str:
        return f"<{len(self._members)} nodes beside one another>"

    def _nodes(self) -> Sequence[Any]:
        return [node for member in self._members for node in member._nodes()]


def _link(upstream: Linkable, downstream: Linkable) -> None:
    loaded("hyrex.workflows.building").link(upstream._nodes(), downstream._nodes())
