"""A workflow to be sent, with all that must stay the same if it is sent again."""

from collections.abc import Sequence
from typing import NamedTuple

from hyrex.backend.outgoing import Outgoing, OutgoingBatch

__all__ = ["OutgoingWorkflow", "Upstream", "sinks_of"]


class Upstream(NamedTuple):
    """A node that another one waits for, by its place. `parameter`: its result is that argument; "x[]": one
    of a list; empty: only the order."""

    node: int
    parameter: str = ""
    runs_anyway: bool = False


def sinks_of(upstreams: Sequence[Sequence[Upstream]]) -> list[int]:
    """The places of the nodes that no other one waits for."""
    waited_for = {each.node for waits in upstreams for each in waits}
    return [at for at in range(len(upstreams)) if at not in waited_for]


class OutgoingWorkflow:
    """A workflow's task and those of its nodes, which are stored together or not at all.

    `tasks` has the workflow's own first, so the node at place n is task n + 1.
    """

    __slots__ = ("fail_fast", "names", "tasks", "upstreams")

    def __init__(
        self,
        tasks: OutgoingBatch,
        names: Sequence[str],
        upstreams: Sequence[Sequence[Upstream]],
        *,
        fail_fast: bool = False,
    ) -> None:
        self.tasks = tasks
        self.names = names
        self.upstreams = upstreams
        self.fail_fast = fail_fast

    @property
    def root(self) -> Outgoing:
        """The workflow's own task."""
        return self.tasks[0]

    def renewed(self) -> "OutgoingWorkflow":
        """The same with other ids: nothing bears those that it has."""
        tasks = self.tasks.renewed(range(len(self.tasks)))
        return OutgoingWorkflow(tasks, self.names, self.upstreams, fail_fast=self.fail_fast)
