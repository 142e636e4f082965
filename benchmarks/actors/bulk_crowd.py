"""Many callers that submit as fast as they are answered, each over its own connection; argument: HOST:PORT.

Orders: {"streams": N, "frame": F}: from now on N streams of frames of F tasks, eight unanswered each;
{"calls": N, "each": K}: N connections with K unary calls of one task under way each. Frames are made as bytes
and answers are not read, so that one such process asks for more than a broker can do.
"""

import asyncio
import sys
from collections.abc import AsyncIterator
from typing import Any, Final

import grpc.aio
import uvloop

from benchmarks.actors.orders import obey_async
from hyrex.backend.ids import new_task_id
from hyrex.v1 import task_pb2, task_service_pb2

WINDOW: Final = 8
OPTIONS: Final = (("grpc.use_local_subchannel_pool", 1),)
SERVICE: Final = "/hyrex.v1.TaskService"
PAYLOAD: Final = b"[1]"
TERMS: Final = task_pb2.NewTask(name="handle", queue="bench")


class Crowd:
    """The callers, and how many of their tasks were answered."""

    def __init__(self, address: str) -> None:
        self._address = address
        self._callers: list[asyncio.Task[None]] = []
        self._answered = 0

    async def order(
        self, streams: int = 0, frame: int = 500, calls: int = 0, each: int = 0
    ) -> dict[str, Any]:
        """Begin; how many tasks were answered since the last order."""
        for _ in range(streams):
            self._callers.append(asyncio.create_task(self._stream(frame)))
        for _ in range(calls):
            self._callers.append(asyncio.create_task(self._call(each)))
        answered, self._answered = self._answered, 0
        return {"answered": answered}

    async def _stream(self, count: int) -> None:
        room = asyncio.Semaphore(WINDOW)

        async def frames() -> AsyncIterator[bytes]:
            while True:
                await room.acquire()
                yield _frame(count)

        async with grpc.aio.insecure_channel(self._address, OPTIONS) as channel:
            stream: Any = channel.stream_stream(f"{SERVICE}/StreamSubmit")
            async for _ in stream(frames()):
                room.release()
                self._answered += count

    async def _call(self, each: int) -> None:
        async with grpc.aio.insecure_channel(self._address, OPTIONS) as channel:
            submit: Any = channel.unary_unary(f"{SERVICE}/SubmitTasks")

            async def again_and_again() -> None:
                while True:
                    await submit(_request())
                    self._answered += 1

            async with asyncio.TaskGroup() as group:
                for _ in range(each):
                    group.create_task(again_and_again())


def _frame(count: int) -> bytes:
    ids = bytes.fromhex("".join([new_task_id() for _ in range(count)]).replace("-", ""))
    group = task_service_pb2.TaskGroup(terms=TERMS, task_ids=ids, payloads=[PAYLOAD] * count)
    return task_service_pb2.StreamSubmitRequest(groups=[group]).SerializeToString()


def _request() -> bytes:
    task = task_pb2.NewTask(task_id=new_task_id(), name="handle", queue="bench", payload=PAYLOAD)
    return task_service_pb2.SubmitTasksRequest(tasks=[task]).SerializeToString()


async def main() -> None:
    """Obey until the orders end."""
    await obey_async(Crowd(sys.argv[1]).order)


if __name__ == "__main__":
    uvloop.run(main())
