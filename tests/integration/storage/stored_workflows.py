"""Workflows on a stage."""

from hyrex_broker.domain.blocks import batch_of
from hyrex_broker.domain.model import TaskId
from hyrex_broker.service.graphs import GraphReader
from hyrex_broker.service.groups import SubmitReader
from hyrex_broker.storage.workflows import WorkflowStore
from tests.integration.engine.workflow_runs import LIMIT, sent
from tests.integration.storage.stage import Stage


async def stored_workflow(stage: Stage, graph: dict[str, list[str]]) -> dict[str, TaskId]:
    """Store a workflow; the ids of its nodes by name, and of its root by ""."""
    workflow = GraphReader(SubmitReader(LIMIT)).read(sent(graph))
    for block in workflow.blocks:
        block.lane = await stage.lane(block.terms.queue, block.terms.name, followed=True)
    assert await WorkflowStore(stage.database).submit(workflow, batch_of(workflow.blocks), {})
    return {node.name: node.task_id for node in workflow.nodes} | {"": workflow.root_id}
