"""Workflows on a stage."""

from collections.abc import Mapping

from hyrex.v1.workflow_service_pb2 import SubmitWorkflowRequest
from hyrex_broker.domain.blocks import batch_of
from hyrex_broker.domain.ids import hex_id
from hyrex_broker.domain.model import TaskId
from hyrex_broker.service.graphs import GraphReader
from hyrex_broker.service.groups import SubmitReader
from hyrex_broker.storage.workflows import WorkflowStore
from tests.integration.engine.workflow_runs import LIMIT, sent
from tests.integration.storage.keys import hashed
from tests.integration.storage.stage import Stage


async def stored_workflow(
    stage: Stage, graph: Mapping[str, list[str]] | SubmitWorkflowRequest
) -> dict[str, TaskId]:
    """Store a workflow; the ids of its nodes by name, and of its root by ""."""
    request = graph if isinstance(graph, SubmitWorkflowRequest) else sent(graph)
    keys = {hex_id(TaskId(node.task.task_id)): node.task.concurrency_key for node in request.nodes}
    workflow = GraphReader(SubmitReader(LIMIT)).read(request)
    for block in workflow.blocks:
        block.lane = await stage.lane(block.terms.queue, block.terms.name, followed=True)
    hashes = {digits: hashed(key) for digits, key in keys.items() if key}
    assert await WorkflowStore(stage.database).submit(workflow, batch_of(workflow.blocks), hashes)
    return {node.name: node.task_id for node in workflow.nodes} | {"": workflow.root_id}
