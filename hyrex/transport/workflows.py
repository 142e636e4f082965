"""Workflows on the wire: what is sent of one, and how it stands."""

from collections.abc import Sequence

from hyrex.backend.outgoing import Outgoing, SendResult
from hyrex.backend.outgoing_workflow import OutgoingWorkflow, Upstream
from hyrex.backend.workflow_state import INTERNAL, NodeSnapshot, WorkflowSnapshot
from hyrex.errors import CallRejected, HyrexError, SendRejected, TokenInvalid
from hyrex.transport.convert import new_task, submit_outcome, task_state
from hyrex.v1 import task_pb2, workflow_service_pb2

__all__ = ["refusal_of", "submit_workflow_request", "workflow_outcome", "workflow_state"]


def submit_workflow_request(workflow: OutgoingWorkflow) -> workflow_service_pb2.SubmitWorkflowRequest:
    """A workflow as it is sent."""
    return workflow_service_pb2.SubmitWorkflowRequest(
        root=new_task(workflow.root),
        nodes=[
            workflow_service_pb2.WorkflowNode(
                task=_node(workflow.tasks[at]),
                name=name,
                upstreams=_upstreams(workflow.upstreams[at - 1]),
                approval=workflow.tasks[at].spec.task.is_outside,
            )
            for at, name in enumerate(workflow.names, 1)
        ],
        fail_fast=workflow.fail_fast,
        trace_context=workflow.tasks.origin.trace_context,
    )


def _node(outgoing: Outgoing) -> task_pb2.NewTask:
    """The task of a node, whose parent the broker knows: the workflow's own."""
    task = new_task(outgoing)
    task.parent_id = task.root_id = ""
    return task


def _upstreams(upstreams: Sequence[Upstream]) -> list[workflow_service_pb2.Upstream]:
    return [
        workflow_service_pb2.Upstream(node=each.node, parameter=each.parameter, runs_anyway=each.runs_anyway)
        for each in upstreams
    ]


def workflow_outcome(
    workflow: OutgoingWorkflow, response: workflow_service_pb2.SubmitWorkflowResponse
) -> SendResult:
    """What became of a workflow that was sent."""
    return submit_outcome(workflow.root, response.root)


def workflow_state(response: workflow_service_pb2.GetWorkflowResponse) -> WorkflowSnapshot:
    """How a workflow stands, from its wire form."""
    names = [node.name for node in response.nodes]
    nodes = tuple(
        NodeSnapshot(
            node.name,
            task_state(node.task),
            tuple(names[each.node] for each in node.upstreams if 0 <= each.node < len(names)),
        )
        for node in response.nodes
    )
    return WorkflowSnapshot(task_state(response.root), nodes, dict(response.root.headers))


def refusal_of(error: HyrexError) -> SendResult:
    """What a refused call says of the workflow that it was to store."""
    if not isinstance(error, CallRejected) or isinstance(error, TokenInvalid) or error.reason == INTERNAL:
        return error
    text = f"the broker refused the workflow: {error}"
    return SendRejected(text, error.reason or error.code, error.metadata)
