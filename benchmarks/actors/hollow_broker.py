"""A TaskService that stores nothing and answers every frame after some milliseconds; argument: how many.

What remains of a send is the way there and back.
"""

import asyncio
import sys
from collections.abc import AsyncIterator
from typing import Any

import grpc.aio
import uvloop

from hyrex.v1 import task_service_pb2 as wire
from hyrex.v1 import task_service_pb2_grpc


class HollowTasks(task_service_pb2_grpc.TaskServiceServicer):
    """Answers."""

    def __init__(self, delay_s: float) -> None:
        self._delay_s = delay_s

    async def SubmitTasks(  # noqa: N802
        self, request: wire.SubmitTasksRequest, context: Any
    ) -> wire.SubmitTasksResponse:
        """Every task is stored."""
        await asyncio.sleep(self._delay_s)
        stored = wire.SUBMIT_OUTCOME_STORED
        results = [wire.SubmitResult(task_id=task.task_id, outcome=stored) for task in request.tasks]
        return wire.SubmitTasksResponse(results=results)

    async def StreamSubmit(  # type: ignore[override]  # noqa: N802
        self, request_iterator: AsyncIterator[wire.StreamSubmitRequest], context: Any
    ) -> None:
        """Every task is stored, frame after frame."""
        async for frame in request_iterator:
            await asyncio.sleep(self._delay_s)
            await context.write(wire.StreamSubmitResponse(sequence=frame.sequence))


async def main() -> None:
    """Serve on a free port, which is printed."""
    server = grpc.aio.server()
    tasks = HollowTasks(float(sys.argv[1]) / 1000)  # type: ignore[abstract]  # its other calls are unimplemented
    task_service_pb2_grpc.add_TaskServiceServicer_to_server(tasks, server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    print(f"hollow broker on {port}", flush=True)
    await server.wait_for_termination()


if __name__ == "__main__":
    uvloop.run(main())
