"""Workflows through a gateway to two cells."""

import grpc.aio

from hyrex.v1 import workflow_service_pb2_grpc
from hyrex.v1.workflow_service_pb2 import GetWorkflowRequest
from tests.integration.engine.workflow_runs import sent
from tests.integration.gateway.conftest import REST, VIDEO, Cluster
from tests.integration.gateway.sends import STORED
from tests.integration.service.stubs import reason_of
from tests.integration.storage.stage import make_id


async def test_a_workflow_is_stored_in_the_cell_of_its_queue_and_found_there(cluster: Cluster) -> None:
    request = sent({"a": [], "b": ["a"]}, queue=VIDEO)
    async with grpc.aio.insecure_channel(cluster.gateway.address) as channel:
        stub = workflow_service_pb2_grpc.WorkflowServiceStub(channel)
        assert (await stub.SubmitWorkflow(request)).root.outcome == STORED
        by_node = GetWorkflowRequest(task_id=request.nodes[1].task.task_id)
        assert (await stub.GetWorkflow(by_node)).root.task_id == request.root.task_id
        assert await reason_of(stub.GetWorkflow(GetWorkflowRequest(task_id=make_id()))) == "TASK_NOT_FOUND"
    async with grpc.aio.insecure_channel(cluster.video.address) as channel:
        stub = workflow_service_pb2_grpc.WorkflowServiceStub(channel)
        assert (await stub.GetWorkflow(by_node)).root.task_id == request.root.task_id


async def test_a_workflow_with_nodes_in_two_cells_is_refused(cluster: Cluster) -> None:
    request = sent({"a": [], "b": ["a"]}, queue=VIDEO)
    request.nodes[1].task.queue = REST
    async with grpc.aio.insecure_channel(cluster.gateway.address) as channel:
        stub = workflow_service_pb2_grpc.WorkflowServiceStub(channel)
        assert await reason_of(stub.SubmitWorkflow(request)) == "SPANS_CELLS"
