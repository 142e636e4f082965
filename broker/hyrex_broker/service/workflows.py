"""WorkflowService: checks graphs, has them stored, and shows how they stand."""

from collections import Counter
from collections.abc import Collection, Hashable, Iterator
from dataclasses import dataclass
from enum import IntEnum
from typing import Final

from hyrex.v1 import task_pb2, workflow_service_pb2, workflow_service_pb2_grpc
from hyrex_broker.domain.errors import InvalidField, NoSuchTask, NoWorkflow, RightMissing, RowRefused
from hyrex_broker.domain.features import Feature
from hyrex_broker.domain.ids import task_id as text_of
from hyrex_broker.domain.model import TaskId
from hyrex_broker.domain.rights import Scope
from hyrex_broker.domain.states import TaskState
from hyrex_broker.domain.views import TaskView
from hyrex_broker.domain.workflows import NodeStanding, SentNode, StoredWorkflow, Workflow
from hyrex_broker.engine.submit.answers import Answer
from hyrex_broker.engine.workflows import RefusedNode, WorkflowIntake
from hyrex_broker.service import fields, requests
from hyrex_broker.service.callers import current_caller
from hyrex_broker.service.graphs import GraphReader
from hyrex_broker.service.receiving import Context
from hyrex_broker.service.submit import SubmitChecker, fill_result
from hyrex_broker.service.submit_rights import not_ready, without_others_keys
from hyrex_broker.service.task_rights import Looks, TaskRights
from hyrex_broker.storage.reads import FULL, LISTED, TaskReads
from hyrex_broker.storage.workflows import WorkflowStore

_ROOT: Final = 0


class ShownNodes(IntEnum):
    """Which nodes of a workflow are shown. Numbers equal those of hyrex.v1.ShownNodes."""

    ALL = 1
    NONE = 2


@dataclass(frozen=True, slots=True)
class WorkflowParts:
    """The parts that WorkflowService uses."""

    intake: WorkflowIntake
    submits: SubmitChecker
    store: WorkflowStore
    reads: TaskReads
    looks: Looks


class WorkflowServicer(workflow_service_pb2_grpc.WorkflowServiceServicer):
    """The RPCs of WorkflowService."""

    def __init__(self, parts: WorkflowParts) -> None:
        self._parts = parts
        self._rights = TaskRights(parts.reads, parts.looks)
        self._reader = GraphReader(parts.submits.reader)

    async def SubmitWorkflow(
        self, request: workflow_service_pb2.SubmitWorkflowRequest, context: Context
    ) -> workflow_service_pb2.SubmitWorkflowResponse:
        response = workflow_service_pb2.SubmitWorkflowResponse()
        text, node = request.root.task_id.lower(), ""
        answer: Answer
        try:
            workflow = self._reader.read(request)
            await self._check(workflow)
            answer = await self._stored(workflow, requests.patience_s(context), requests.caller(context))
        except RefusedNode as refusal:
            answer, node = refusal.error, refusal.node
        fill_result(response.root, text, answer, {})
        if node:
            response.root.error.metadata["node"] = node
            response.root.error.message = f"node {node!r}: {response.root.error.message}"
        return response

    async def _check(self, workflow: Workflow) -> None:
        """Refuse what the caller may not, or the cluster cannot yet. Raises RefusedNode, FeatureNotReady,
        StorageUnavailable."""
        gate, caller, names = self._parts.submits.gate, current_caller(), workflow.names()
        for block in workflow.blocks:
            if not caller.covers(block.terms.queue):
                denied = RightMissing(caller.name, Scope.SUBMIT, block.terms.queue)
                raise RefusedNode(names.get(text_of(block.ids[0]), ""), denied)
        await gate.require(Feature.WORKFLOWS)
        for block in workflow.blocks:
            for place, error in (await not_ready(block, gate)).items():
                raise RefusedNode(names.get(text_of(block.ids[place]), ""), error)

    async def _stored(self, workflow: Workflow, patience_s: float | None, caller: Hashable) -> Answer:
        parts, rights = self._parts, current_caller()
        answer = await parts.submits.whole(
            len(workflow.nodes) + 1, lambda: parts.intake.submit(workflow), patience_s, caller
        )
        if rights.unlimited:
            return answer
        return (await without_others_keys({_ROOT: answer}, rights, parts.reads))[_ROOT]

    async def GetWorkflow(
        self, request: workflow_service_pb2.GetWorkflowRequest, context: Context
    ) -> workflow_service_pb2.GetWorkflowResponse:
        task_id, wanted = fields.task_id(request.task_id), _shown_nodes(request.nodes)
        workflow = await self._parts.store.of(task_id)
        if workflow is None:
            await self._refuse(task_id)
            raise NoSuchTask(task_id)
        listed = set(workflow.nodes) if wanted is ShownNodes.ALL else {task_id}
        views = await self._views(workflow.root_id, listed)
        if task_id not in views:
            raise NoSuchTask(task_id)
        self._rights.note("workflow.get", views.values())
        response = workflow_service_pb2.GetWorkflowResponse(
            root=self._task(views.pop(workflow.root_id, None)),
            fail_fast=workflow.fail_fast,
            root_id=workflow.root_id,
        )
        if wanted is ShownNodes.ALL:
            graph = await self._parts.store.graph(workflow)
            response.nodes.extend(self._node(each, views.get(each.task_id)) for each in graph)
            counts = Counter(map(_standing, views.values()))
        else:
            counts = await self._counts(workflow)
        response.counts.extend(_node_counts(counts, len(workflow.nodes)))
        return response

    async def _refuse(self, task_id: TaskId) -> None:
        """Raises what is told of a task that is of no workflow, if the caller may see it, or of a row in an
        outbox that was refused."""
        view = (await self._rights.seen([task_id])).get(task_id)
        if view is not None:
            raise RowRefused(task_id, view.in_outbox) if view.is_refused else NoWorkflow(task_id)

    async def _views(self, root_id: TaskId, nodes: Collection[TaskId]) -> dict[TaskId, TaskView]:
        """A root and nodes of it; tasks of queues that the caller may not see are not there for it."""
        reads, caller = self._parts.reads, current_caller()
        found = await reads.tasks([root_id], FULL)
        if ids := [*{*nodes} - {root_id}]:
            found += await reads.tasks(ids, LISTED)
        return {view.task_id: view for view in found if caller.sees(view.queue)}

    async def _counts(self, workflow: StoredWorkflow) -> Counter[NodeStanding]:
        """How many nodes that the caller may see stand where."""
        counts, caller = Counter[NodeStanding](), current_caller()
        for each in await self._parts.store.standings(workflow):
            if caller.sees(each.queue):
                counts[each.standing] += each.nodes
        return counts

    def _node(self, node: SentNode, view: TaskView | None) -> workflow_service_pb2.WorkflowNodeState:
        return workflow_service_pb2.WorkflowNodeState(
            task=self._task(view),
            name=node.name,
            upstreams=[
                workflow_service_pb2.Upstream(
                    node=edge.place, parameter=edge.parameter, runs_anyway=edge.runs_anyway
                )
                for edge in node.edges
            ],
            approval=node.approval,
        )

    def _task(self, view: TaskView | None) -> task_pb2.Task | None:
        return None if view is None else self._rights.shown(view)


def _shown_nodes(wanted: int) -> ShownNodes:
    """Raises InvalidField."""
    try:
        return ShownNodes(wanted or ShownNodes.ALL)
    except ValueError:
        raise InvalidField("nodes", wanted, "must be a value of ShownNodes") from None


def _standing(view: TaskView) -> NodeStanding:
    cause = view.runs[-1].cause if view.state is TaskState.CANCELLED and view.runs else None
    return NodeStanding(view.state, cause)


def _node_counts(counts: Counter[NodeStanding], nodes: int) -> Iterator[workflow_service_pb2.NodeCount]:
    """What is missing to so many nodes comes first."""
    if unseen := nodes - counts.total():
        yield workflow_service_pb2.NodeCount(count=unseen)
    for state, cause in sorted(counts, key=lambda each: (each.state, each.cause or 0)):
        yield workflow_service_pb2.NodeCount(
            status=task_pb2.TaskStatus.ValueType(state),
            cause=task_pb2.CancelCause.ValueType(cause or 0),
            count=counts[NodeStanding(state, cause)],
        )
