"""What runs of workflows' nodes are given besides their payload."""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class UpstreamValue:
    """A result that a node is given."""

    parameter: str
    result: bytes
    content_type: str | None
    task_name: str


@dataclass(frozen=True, slots=True)
class NodeRun:
    """What a run of a node is given besides its payload."""

    workflow: str
    node: str
    results: Sequence[UpstreamValue]
    payload: bytes
    content_type: str | None = None
    codec: str | None = None

    @property
    def size_bytes(self) -> int:
        """What it takes in a frame."""
        return 1100 + len(self.payload) + sum(len(each.result) + 1100 for each in self.results)
