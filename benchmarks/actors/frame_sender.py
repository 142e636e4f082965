"""Sends frames of one task with the generated stub, one after the other, to HYREX_BROKER_URL.

Orders: {"frames": N, "stream": whether over StreamSubmit}; answers the milliseconds that each took.
"""

import asyncio
import os
import time
from typing import Any, Final

import grpc.aio

from benchmarks.actors.orders import obey_async
from benchmarks.actors.sql_session import PAYLOAD
from hyrex.backend.ids import new_task_id
from hyrex.v1 import task_pb2, task_service_pb2_grpc
from hyrex.v1 import task_service_pb2 as wire

TERMS: Final = task_pb2.NewTask(name="handle")


class FrameSender:
    """A channel."""

    def __init__(self, target: str) -> None:
        self._stub: Any = task_service_pb2_grpc.TaskServiceStub(grpc.aio.insecure_channel(target))

    async def obey(self, frames: int, stream: bool) -> dict[str, Any]:
        """Send so many frames."""
        call = self._stub.StreamSubmit() if stream else None
        began = time.perf_counter()
        for _ in range(frames):
            task_id = new_task_id()
            if call is None:
                tasks = [task_pb2.NewTask(task_id=task_id, name="handle", payload=PAYLOAD)]
                await self._stub.SubmitTasks(wire.SubmitTasksRequest(tasks=tasks), timeout=10)
            else:
                packed = bytes.fromhex(task_id.replace("-", ""))
                group = wire.TaskGroup(terms=TERMS, task_ids=packed, payloads=[PAYLOAD])
                await call.write(wire.StreamSubmitRequest(groups=[group]))
                await call.read()
        return {"ms": (time.perf_counter() - began) * 1000 / frames}


async def main() -> None:
    """Obey until the orders end."""
    await obey_async(FrameSender(os.environ["HYREX_BROKER_URL"].removeprefix("grpc://")).obey)


if __name__ == "__main__":
    asyncio.run(main())
