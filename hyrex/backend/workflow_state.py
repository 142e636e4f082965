"""A workflow as a broker described it."""

from dataclasses import dataclass, field
from typing import Final

from hyrex.runs import TaskSnapshot

__all__ = ["INTERNAL", "NodeSnapshot", "WorkflowSnapshot"]

INTERNAL: Final = "INTERNAL"
"""The reason of a broker that failed: before or after its commit, so a workflow may be stored or not."""


@dataclass(frozen=True, slots=True)
class NodeSnapshot:
    """A node as it stands, without results. `upstreams`: the names of those that it waits for."""

    name: str
    task: TaskSnapshot
    upstreams: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class WorkflowSnapshot:
    """A workflow's own task and its nodes, in the order in which they were sent."""

    root: TaskSnapshot
    nodes: tuple[NodeSnapshot, ...]
    headers: dict[str, str] = field(default_factory=dict)
    """Those of its own task."""
