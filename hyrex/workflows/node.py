"""One task of a workflow, as its body makes it: with arguments, a name, and what it waits for."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

from hyrex.arguments.coder import TaskCoder
from hyrex.backend.send_spec import SendSpec
from hyrex.errors import WorkflowInvalid
from hyrex.options import checked_name
from hyrex.workflows.linkable import Linkable, NodeGroup
from hyrex.workflows.references import ResultOf

__all__ = ["Binding", "Body", "NodeTask", "WorkflowNode"]

R_co = TypeVar("R_co", covariant=True)
N = TypeVar("N", bound="WorkflowNode[Any]")


class Body(Protocol):
    """The graph that a node belongs to."""

    name: str


class NodeTask(Protocol):
    """A task that can be a node: what a node needs of it."""

    _spec: SendSpec
    _coder: TaskCoder


@dataclass(frozen=True, slots=True)
class Binding:
    """The result of a node as an argument of another one; `listed`: as one of a list."""

    parameter: str
    upstream: "WorkflowNode[Any]"
    listed: bool = False


class WorkflowNode(Linkable, Generic[R_co]):
    """A task in a workflow; made by `task.node(...)` in the workflow's body."""

    def __init__(
        self, building: Body, task: NodeTask, given: dict[str, Any], bindings: Sequence[Binding]
    ) -> None:
        self._building = building
        self._task = task
        self._given = given
        self._bindings = tuple(bindings)
        self._after: dict[WorkflowNode[Any], bool] = {binding.upstream: False for binding in bindings}
        self._name: str | None = None
        self._runs_anyway = False

    def __repr__(self) -> str:
        return f"<node {self.name} of workflow {self._building.name}>"

    @property
    def name(self) -> str:
        """Its name in the workflow; that of its task until the body has run."""
        return self._name or self._task._spec.config.name

    @property
    def title(self) -> str:
        """What messages call it."""
        return f"node {self.name!r}"

    @property
    def result(self) -> R_co:
        """What it will return, to be given to another node. In the workflow's body nothing is known of it
        yet, so whatever else is done with it raises WorkflowInvalid."""
        found: Any = ResultOf(self)
        return found  # type: ignore[no-any-return]

    def named(self: N, name: str) -> N:
        """Give it a name in its workflow; without one it has its task's, and a number from the second on."""
        self._name = checked_name("name of a node", name)
        return self

    def after(self: N, *upstream: Linkable, runs_anyway: bool = False) -> N:
        """Run it after these. `runs_anyway`: also if they end badly. Raises WorkflowInvalid."""
        for node in NodeGroup(upstream)._nodes():
            self._wait_for(node, runs_anyway=runs_anyway)
        return self

    def runs_anyway(self: N) -> N:
        """Run it when all before it have ended, however they ended. An argument that one of them would have
        been keeps its default then, so it needs one."""
        self._runs_anyway = True
        return self

    def goes_on_after(self, upstream: "WorkflowNode[Any]") -> bool:
        """Return True if it runs also when that one ends badly."""
        return self._runs_anyway or self._after[upstream]

    def _wait_for(self, upstream: "WorkflowNode[Any]", *, runs_anyway: bool = False) -> None:
        if upstream._building is not self._building:
            raise WorkflowInvalid(
                f"workflow {self._building.name}: {upstream.title} belongs to workflow "
                f"{upstream._building.name}; make a node of its task in this one"
            )
        self._after[upstream] = self._after.get(upstream, False) or runs_anyway

    def _nodes(self) -> Sequence[Any]:
        return (self,)
