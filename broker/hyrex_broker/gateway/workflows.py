"""WorkflowService of a gateway: a workflow and all of its nodes are in the cell of its root's queue."""

from hyrex.v1 import workflow_service_pb2 as pb
from hyrex.v1 import workflow_service_pb2_grpc
from hyrex_broker.domain.errors import SpansCells
from hyrex_broker.gateway.cell import passed
from hyrex_broker.gateway.methods import method
from hyrex_broker.gateway.routing import GatewayCells
from hyrex_broker.gateway.search import find
from hyrex_broker.service import fields
from hyrex_broker.service.receiving import Context

_SUBMIT, _GET = (method("WorkflowService", f"{name}Workflow") for name in ("Submit", "Get"))


class GatewayWorkflows(workflow_service_pb2_grpc.WorkflowServiceServicer):
    """Workflows of all cells."""

    def __init__(self, cells: GatewayCells) -> None:
        self._cells = cells

    async def SubmitWorkflow(
        self, request: pb.SubmitWorkflowRequest, context: Context
    ) -> pb.SubmitWorkflowResponse:
        cell = self._cells.of(request.root.queue)
        for node in request.nodes:
            if (other := self._cells.of(node.task.queue)) is not cell:
                raise SpansCells(
                    f"a workflow in cell {cell.name!r} with a node {node.name!r} in cell {other.name!r} is",
                    "put all of its nodes into queues of one cell",
                )
        answer: pb.SubmitWorkflowResponse = await cell.ask(_SUBMIT, request, passed(context))
        return answer

    async def GetWorkflow(self, request: pb.GetWorkflowRequest, context: Context) -> pb.GetWorkflowResponse:
        fields.task_id(request.task_id)
        answer: pb.GetWorkflowResponse = await find(self._cells.all, _GET, request, passed(context))
        return answer
