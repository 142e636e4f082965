"""The handle of a workflow that was sent: a task's, which knows its nodes too."""

import time
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from itertools import islice
from typing import Any, Final, TypeVar
from uuid import UUID

from hyrex.backend.known import observe
from hyrex.backend.outgoing import Progress, SendResult
from hyrex.backend.outgoing_workflow import OutgoingWorkflow
from hyrex.backend.protocol import Backend, Watched
from hyrex.backend.workflow_state import INTERNAL, NodeSnapshot, WorkflowSnapshot
from hyrex.client.process import current_backend
from hyrex.codec import CODECS, RESULT_MARK
from hyrex.concluding import conclude
from hyrex.errors import CallRejected, HyrexError, SubmitUnknown, loaded
from hyrex.handle import TaskHandle, handle_of
from hyrex.options import Timeout
from hyrex.results import result_of
from hyrex.runs import decode_freely
from hyrex.status import TaskStatus
from hyrex.workflows.graph import Graph
from hyrex.workflows.results import RESULT_HEADER, Template, composed, names_in, read_template

__all__ = ["WorkflowHandle"]

R = TypeVar("R")
TOLD: Final = 10
"""As many names stand in the error for one that is not there."""


class NodesByName(Mapping[str, TaskHandle[Any]]):
    """What `handle.nodes` returns: a name that is not there raises a KeyError that says which are."""

    __slots__ = ("_known", "_workflow")

    def __init__(self, workflow: str, known: Mapping[str, TaskHandle[Any]]) -> None:
        self._workflow = workflow
        self._known = known

    def __getitem__(self, name: str) -> TaskHandle[Any]:
        found = self._known.get(name)
        if found is None:
            raise KeyError(f"workflow {self._workflow} has no node {name!r}; {self._told()}")
        return found

    def __iter__(self) -> Iterator[str]:
        return iter(self._known)

    def __len__(self) -> int:
        return len(self._known)

    def __repr__(self) -> str:
        return repr(dict(self._known))

    def _told(self) -> str:
        if not self._known:
            return "its nodes are not known here yet: call refresh() or await refresh_async()"
        more = ", ..." if len(self._known) > TOLD else ""
        return f"its nodes are {', '.join(islice(self._known, TOLD))}{more}"


class WorkflowHandle(TaskHandle[R]):
    """A workflow by its id. It has what a task's handle has: `wait()` waits until all nodes have ended,
    `cancel()` cancels those that have not."""

    __slots__ = ("_nodes", "_sent", "_sinks", "_template")

    def __init__(
        self, task_id: UUID | str, task_name: str, *, decode: Callable[[bytes], R] = decode_freely
    ) -> None:
        super().__init__(task_id, task_name, decode=decode)
        self._nodes: dict[str, TaskHandle[Any]] = {}
        self._sent: OutgoingWorkflow | None = None
        self._template: Template = None
        self._sinks: tuple[str, ...] = ()

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickled as a task's handle is; it cannot send the workflow again there."""
        kept = (self._nodes, self._template, self._sinks) if self._knows_nodes else ({}, None, ())
        return _again, (super().__reduce__()[1], kept)

    def __copy__(self) -> "WorkflowHandle[R]":
        kept = (dict(self._nodes), self._template, self._sinks)
        known = (self.deduplicated, self.arguments_differ, self._state, self._status, self._outgoing)
        made = _again((self._id, self.task_name, self._decode, known), kept)
        made._sent = self._sent
        return made

    @property
    def nodes(self) -> Mapping[str, TaskHandle[Any]]:
        """The handles of its nodes by their names, as of the last refresh(); empty before that if another
        process has sent it."""
        return NodesByName(self.task_name, self._nodes)

    # Methods that ask a broker.

    def refresh(self) -> None:
        """Ask a broker for the status of the workflow and of its nodes."""
        self._observe(current_backend().get_workflow(self._id))

    async def refresh_async(self) -> None:
        """As refresh(), without blocking the running loop."""
        self._observe(await current_backend().get_workflow_async(self._id))

    def result(self, timeout: Timeout = None) -> R:
        """Wait, then return what the workflow's body returned, made of its nodes' results.

        Of a body that returns nothing: the results of all nodes for which no other waits, by their names.
        Raises as result() of a task; TaskFailed names the nodes that ended badly.
        """
        began = time.monotonic()
        self.wait(timeout)
        self._require_completed(began)
        if not self._knows_nodes:
            self.refresh()
        return self._result(current_backend().watch([*self._result_ids().values()], None))

    async def result_async(self, timeout: Timeout = None) -> R:
        """As result(), without blocking the running loop."""
        began = time.monotonic()
        await self.wait_async(timeout)
        self._require_completed(began)
        if not self._knows_nodes:
            await self.refresh_async()
        watched = await current_backend().watch_async([*self._result_ids().values()], None)
        if CODECS:
            return await loaded("asyncio").to_thread(self._result, watched)  # type: ignore[no-any-return]
        return self._result(watched)

    def retry_failed(self) -> bool:
        """Run the nodes again that ended badly, and those that were skipped for it, under their ids;
        completed ones are not run again. Return False if the workflow has not ended, or completed. Raises
        TaskNotFound, BrokerUnavailable."""
        super().refresh()
        return self._is_bad and self._retried(current_backend().retry(self._id))

    async def retry_failed_async(self) -> bool:
        """As retry_failed(), without blocking the running loop."""
        await super().refresh_async()
        return self._is_bad and self._retried(await current_backend().retry_async(self._id))

    def resend(self) -> None:
        """Repeat the send under the same ids, so that the workflow is stored only once. Raises as send()."""
        backend = current_backend()
        self.conclude(backend, backend.store_workflow(self._as_sent()))

    async def resend_async(self) -> None:
        """As resend(), without blocking the running loop."""
        backend = current_backend()
        self.conclude(backend, await backend.store_workflow_async(self._as_sent()))

    # What it knows.

    def sent_as(self, workflow: OutgoingWorkflow, graph: Graph) -> None:
        """Note what is sent, and under which ids."""
        self._sent, self._template, self._sinks = workflow, graph.result, graph.sinks
        self._outgoing = workflow.root
        self._id = workflow.root.task_id
        self._nodes = {name: handle_of(workflow.tasks[at]) for at, name in enumerate(workflow.names, 1)}

    def conclude(self, backend: Backend, outcome: SendResult) -> None:
        """Note what became of the send; raise if it is not acknowledged."""
        if isinstance(outcome, CallRejected) and outcome.reason == INTERNAL:
            raise SubmitUnknown(
                f"{outcome}. {self.task_name} {self._id} may be stored or not; handle.resend() repeats it "
                "under the same ids",
                self,
            )
        conclude(backend, [self], [outcome])
        if outcome is Progress.STORED and self._state is None:
            self._status = TaskStatus.BLOCKED  # until its nodes have ended

    def _as_sent(self) -> OutgoingWorkflow:
        if self._sent is None:
            raise HyrexError(f"{self!r} was not sent by this handle, so it cannot be sent again")
        return self._sent

    @property
    def _knows_nodes(self) -> bool:
        """False if another run of the workflow stands for the one that was sent, or another process has sent
        it."""
        return bool(self._nodes) and not (self._sent is not None and self._sent.root.task_id != self._id)

    def _observe(self, state: WorkflowSnapshot) -> None:
        observe(self, state.root)
        self._template = read_template(state.headers.get(RESULT_HEADER))
        known = self._nodes if self._knows_nodes else {}
        self._nodes = {each.name: known.get(each.name) or self._node(each) for each in state.nodes}
        for each in state.nodes:  # without its result, so it does not count as known
            self._nodes[each.name]._status = each.task.status
        waited_for = {name for each in state.nodes for name in each.upstreams}
        self._sinks = tuple(each.name for each in state.nodes if each.name not in waited_for)

    def _node(self, state: NodeSnapshot) -> TaskHandle[Any]:
        return TaskHandle(state.task.task_id, state.task.name)

    def _require_completed(self, began: float) -> None:
        state = self._known(began)
        if state.status is not TaskStatus.COMPLETED:
            result_of(state, decode_freely)  # raises what became of it

    def _result_ids(self) -> dict[str, str]:
        """The ids of the nodes whose results its own is made of, by their names."""
        names = names_in(self._template) or self._sinks
        return {name: self._nodes[name]._id for name in names if name in self._nodes}

    def _result(self, watched: Watched) -> R:
        results: dict[str, bytes] = {}
        for name, task_id in self._result_ids().items():
            if (failure := watched.failures.get(task_id)) is not None:
                raise failure
            state = watched.states[task_id]
            results[name] = result_of(state, partial(_as_json, self._decode, state.name))
        decode = self._decode if self._template is not None else decode_freely
        found: R = decode(composed(self._template, results))
        return found

    @property
    def _is_bad(self) -> bool:
        """Return True if it has ended and did not complete: brokers run completed tasks again, too."""
        return self.is_final and self._status is not TaskStatus.COMPLETED

    def _retried(self, reopened: bool) -> bool:
        if reopened:
            for each in (self, *self._nodes.values()):
                each._state, each._status = None, None
        return reopened


def _as_json(decode: Callable[[bytes], Any], task_name: str, result: bytes) -> bytes:
    """A node's result without what codecs made of it: by those of the workflow's app."""
    stack = getattr(getattr(decode, "__self__", None), "_stack", None)
    if not result.startswith(RESULT_MARK) or stack is None or stack.codecs is None:
        return result
    decoded: bytes = stack.codecs.decode_result(result, task_name)
    return decoded


def _again(task: tuple[Any, ...], kept: tuple[Any, ...]) -> WorkflowHandle[Any]:
    task_id, name, decode, known = task
    made: WorkflowHandle[Any] = WorkflowHandle(task_id, name, decode=decode)
    made.deduplicated, made.arguments_differ, made._state, made._status, made._outgoing = known
    made._nodes, made._template, made._sinks = kept
    return made
