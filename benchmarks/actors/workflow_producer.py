"""Submits workflows over the generated stubs, several at a time; argument: HOST:PORT.

Each has a node, a number of others that wait for it, and one that waits for all of these.
"""

import asyncio
import sys
import time
from typing import Any, Final

import grpc.aio
import uvloop

from benchmarks.actors.orders import obey_async
from benchmarks.actors.raw_producer import PAYLOAD
from hyrex.backend.ids import new_task_id
from hyrex.v1 import workflow_service_pb2, workflow_service_pb2_grpc
from hyrex.v1.task_service_pb2 import SUBMIT_OUTCOME_STORED

_WITHIN_S: Final = 60.0


class Producer:
    """A window of unanswered calls."""

    def __init__(self, stub: "workflow_service_pb2_grpc.WorkflowServiceAsyncStub") -> None:
        self._stub = stub

    async def submit(self, workflows: int, nodes: int, window: int) -> dict[str, Any]:
        """Submit so many workflows of so many nodes; when it began and was stored."""
        room = asyncio.Semaphore(window)
        began = time.monotonic()
        async with asyncio.TaskGroup() as group:
            for _ in range(workflows):
                await room.acquire()
                group.create_task(self._submit(nodes, room))
        return {"began": began, "stored": time.monotonic()}

    async def _submit(self, nodes: int, room: asyncio.Semaphore) -> None:
        answer: Any = await self._stub.SubmitWorkflow(fan(nodes), timeout=_WITHIN_S)
        room.release()
        if answer.root.outcome != SUBMIT_OUTCOME_STORED:
            raise RuntimeError(f"not stored now: {answer.root}")


def fan(nodes: int) -> workflow_service_pb2.SubmitWorkflowRequest:
    """One, then all others beside one another, then one."""
    request = workflow_service_pb2.SubmitWorkflowRequest()
    request.root.task_id, request.root.name, request.root.queue = str(new_task_id()), "fan", "bench"
    request.root.payload = b"{}"
    for place in range(nodes):
        node = request.nodes.add(name=f"node-{place}")
        node.task.task_id, node.task.name, node.task.queue = str(new_task_id()), "handle", "bench"
        node.task.payload = PAYLOAD
        before = () if place == 0 else range(1, place) if place == nodes - 1 else (0,)
        for each in before:
            node.upstreams.add(node=each)
    return request


async def main() -> None:
    """Obey until the orders end."""
    async with grpc.aio.insecure_channel(sys.argv[1]) as channel:
        await obey_async(Producer(workflow_service_pb2_grpc.WorkflowServiceStub(channel)).submit)


if __name__ == "__main__":
    uvloop.run(main())
