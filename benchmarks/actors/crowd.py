"""Many worker sessions in one process, which hold what they get and report nothing; argument: HOST:PORT.

HYREX_TOKEN has their token, where the broker wants one.

Orders: {"workers": N, "capacity": C}: has that many connected; 0 says Goodbye for all.
"""

import asyncio
import os
import sys
from typing import Any

import grpc.aio
import uvloop

from benchmarks.actors.orders import obey_async
from hyrex.v1 import worker_service_pb2 as wire
from hyrex.v1 import worker_service_pb2_grpc

SESSIONS_PER_CHANNEL = 50


class Crowd:
    """The sessions; each has a stream and a task that beats."""

    def __init__(self, address: str) -> None:
        self._address = address
        self._channels: list[grpc.aio.Channel] = []
        self._members: list[asyncio.Task[None]] = []
        self._leaving = asyncio.Event()
        token = os.environ.get("HYREX_TOKEN")
        self._metadata = (("authorization", f"Bearer {token}"),) if token else ()

    async def gather(self, workers: int, capacity: int = 10) -> dict[str, Any]:
        """Connect them, a channel for every fifty; return when all are welcome."""
        if not workers:
            self._leaving.set()
            await asyncio.gather(*self._members)
            return {}
        welcome = asyncio.Semaphore(0)
        for number in range(workers):
            if number % SESSIONS_PER_CHANNEL == 0:
                options = [("grpc.use_local_subchannel_pool", 1)]
                self._channels.append(grpc.aio.insecure_channel(self._address, options))
            member = self._attend(number, self._channels[-1], capacity, welcome)
            self._members.append(asyncio.create_task(member))
        for _ in range(workers):
            await welcome.acquire()
        return {"connected": workers}

    async def _attend(
        self, number: int, channel: grpc.aio.Channel, capacity: int, welcome: asyncio.Semaphore
    ) -> None:
        call = worker_service_pb2_grpc.WorkerServiceStub(channel).Work(metadata=self._metadata)
        hello = wire.Hello(
            worker_name=f"crowd-{number}", host="bench", pid=1, sdk="raw-stubs/1", protocol_version=1,
            queue_patterns=["bench"], tasks=[wire.TaskDefinition(name="handle", queue="bench")],
            capacity=[wire.PoolCapacity(maximum=capacity)],
        )  # fmt: skip
        await call.write(wire.WorkRequest(hello=hello))
        frame: Any = await call.read()
        interval_s = frame.welcome.heartbeat_interval.ToMilliseconds() / 1000
        welcome.release()
        held = Held()
        reading = asyncio.create_task(held.read(call))
        sequence = 0
        while not self._leaving.is_set():
            try:
                async with asyncio.timeout(interval_s):
                    await self._leaving.wait()
            except TimeoutError:
                sequence += 1
                beat = wire.Heartbeat(
                    sequence=sequence, held_tokens=held.tokens, received_through=held.received_through
                )
                await call.write(wire.WorkRequest(heartbeat=beat))
        await call.write(wire.WorkRequest(goodbye=wire.Goodbye()))
        await call.done_writing()
        await reading


class Held:
    """The leases of one session."""

    def __init__(self) -> None:
        self.tokens: list[int] = []
        self.received_through = 0

    async def read(self, call: Any) -> None:
        """Keep what comes until the stream ends."""
        while isinstance(frame := await call.read(), wire.WorkResponse):
            if frame.HasField("assignments"):
                self.received_through = frame.assignments.sequence
                self.tokens += [token for group in frame.assignments.groups for token in group.tokens]


async def main() -> None:
    """Obey until the orders end."""
    await obey_async(Crowd(sys.argv[1]).gather)


if __name__ == "__main__":
    uvloop.run(main())
