"""Submits tasks over the generated stubs, in pipelined frames; argument: HOST:PORT."""

import asyncio
import sys
import time
from collections.abc import AsyncIterator
from typing import Any, Final

import grpc.aio
import uvloop

from benchmarks.actors.orders import obey_async
from hyrex.backend.ids import new_task_id
from hyrex.v1 import task_pb2, task_service_pb2, task_service_pb2_grpc

PAYLOAD: Final = (
    b'{"order":{"order_id":1,"customer":"customer-0123456789@example.com","amount":99.95,"express":true}}'
)
HEADED: Final = task_pb2.Headers(headers={"tenant": "customer-0123456789"})
HEADLESS: Final = task_pb2.Headers()
TERMS: Final = task_pb2.NewTask(name="handle", queue="bench")


class Producer:
    """One stream of submits with a window of unanswered frames."""

    def __init__(self, stub: "task_service_pb2_grpc.TaskServiceAsyncStub") -> None:
        self._stub = stub
        self._headers: task_service_pb2.TaskGroup | None = None
        self._keys = self._fair = 0
        self._terms = TERMS

    async def submit(
        self, count: int, frame: int, window: int, rate: float = 0.0, **more: int
    ) -> dict[str, Any]:
        """Submit so many tasks, at most `rate` a second (0: no limit); when it began and was stored.

        `more`: what tasks have beside that, see `_give`."""
        self._give(frame, **more)
        room = asyncio.Semaphore(window)
        began = time.monotonic()
        answered = 0
        async for response in self._stub.StreamSubmit(self._frames(count, frame, room, rate)):
            room.release()
            answered += 1
            if response.results:
                raise RuntimeError(f"not stored now: {response.results[0]}")
        if answered != -(-count // frame):
            raise RuntimeError(f"{answered} frames of {count} tasks answered")
        return {"began": began, "stored": time.monotonic()}

    def _give(self, frame: int, headed: int = 0, keys: int = 0, most: int = 1, fair: int = 0) -> None:
        """With `headed`, each so-manieth task has a header. With `keys`, they share so many concurrency
        keys in turn, of which each has `most` at once; with `fair`, so many fair keys."""
        if headed:
            column = [HEADED if place % headed == 0 else HEADLESS for place in range(frame)]
            self._headers = task_service_pb2.TaskGroup(headers=column)
        self._keys, self._fair = keys, fair
        if keys:
            self._terms = task_pb2.NewTask(name="handle", queue="bench", max_per_key=most)

    async def _frames(
        self, count: int, frame: int, room: asyncio.Semaphore, rate: float
    ) -> AsyncIterator[task_service_pb2.StreamSubmitRequest]:
        began = time.monotonic()
        for first in range(0, count, frame):
            await room.acquire()
            if rate:
                await asyncio.sleep(max(began + first / rate - time.monotonic(), 0))
            yield self._request(first, min(frame, count - first))

    def _request(self, sequence: int, count: int) -> task_service_pb2.StreamSubmitRequest:
        ids = bytes.fromhex("".join([new_task_id() for _ in range(count)]).replace("-", ""))
        group = task_service_pb2.TaskGroup(terms=self._terms, task_ids=ids, payloads=[PAYLOAD] * count)
        if self._headers is not None:
            group.MergeFrom(self._headers)
            del group.headers[count:]
        if self._keys:
            group.concurrency_keys.extend(f"key-{n % self._keys}" for n in range(sequence, sequence + count))
        if self._fair:
            group.fair_keys.extend(f"tenant-{n % self._fair}" for n in range(sequence, sequence + count))
        return task_service_pb2.StreamSubmitRequest(sequence=sequence, groups=[group])


async def main() -> None:
    """Obey until the orders end."""
    async with grpc.aio.insecure_channel(sys.argv[1]) as channel:
        await obey_async(Producer(task_service_pb2_grpc.TaskServiceStub(channel)).submit)


if __name__ == "__main__":
    uvloop.run(main())
