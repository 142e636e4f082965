"""WorkflowService: checks graphs, has them stored, and shows how they stand."""

from collections.abc import Hashable
from dataclasses import dataclass
from typing import Final

from hyrex.v1 import task_pb2, workflow_service_pb2, workflow_service_pb2_grpc
from hyrex_broker.domain.errors import NoSuchTask, RightMissing
from hyrex_broker.domain.features import Feature
from hyrex_broker.domain.ids import task_id as text_of
from hyrex_broker.domain.rights import Scope
from hyrex_broker.domain.views import TaskView
from hyrex_broker.domain.workflows import SentNode, Workflow
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
        task_id, reads = fields.task_id(request.task_id), self._parts.reads
        graph = await self._parts.store.graph(task_id)
        if graph is None:
            raise NoSuchTask(task_id)
        views = {view.task_id: view for view in await reads.tasks([graph.root_id], FULL)}
        ids = [each.task_id for each in graph.nodes]
        views |= {view.task_id: view for view in await reads.tasks(ids, LISTED)}
        # Tasks of queues that the caller may not see are not there for it.
        views = {each: view for each, view in views.items() if current_caller().sees(view.queue)}
        if task_id not in views:
            raise NoSuchTask(task_id)
        self._rights.note("workflow.get", views.values())
        return workflow_service_pb2.GetWorkflowResponse(
            root=self._task(views.get(graph.root_id)),
            nodes=[self._node(each, views.get(each.task_id)) for each in graph.nodes],
            fail_fast=graph.fail_fast,
        )

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
