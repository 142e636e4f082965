"""Worker sessions that come back when their broker was restarted; arguments: HOST:PORT, seconds of jitter.

Each has its own connection. Orders: {"workers": N}: connect that many, all at once; {"again": true}: when
all have come back since the last order. The answers tell when the first and the last was welcomed (machine's
clock), and how many were resumed.
"""

import asyncio
import random
import sys
import time
from typing import Any, Final

import grpc.aio
import uvloop

from benchmarks.actors.orders import obey_async
from hyrex.v1 import worker_service_pb2 as wire
from hyrex.v1 import worker_service_pb2_grpc

OPTIONS: Final = (("grpc.use_local_subchannel_pool", 1),)
PAUSE_S: Final = 0.2


class Returning:
    """The sessions, and when each was welcomed last."""

    def __init__(self, address: str, jitter_s: float) -> None:
        self._address = address
        self._jitter_s = jitter_s
        self._members: list[asyncio.Task[None]] = []
        self._welcomed: asyncio.Queue[tuple[float, bool]] = asyncio.Queue()

    async def order(self, workers: int = 0, again: bool = False) -> dict[str, Any]:
        """Connect, or wait for all to be back."""
        for number in range(workers):
            self._members.append(asyncio.create_task(self._live(number)))
        told = [await self._welcomed.get() for _ in self._members]
        times = sorted(moment for moment, _ in told)
        return {"first": times[0], "last": times[-1], "resumed": sum(resumed for _, resumed in told)}

    async def _live(self, number: int) -> None:
        hello = wire.Hello(
            worker_name=f"returning-{number}", host="bench", pid=1, sdk="raw-stubs/1", protocol_version=1,
            queue_patterns=["elsewhere"], tasks=[wire.TaskDefinition(name="handle", queue="elsewhere")],
            capacity=[wire.PoolCapacity(maximum=10)],
        )  # fmt: skip
        async with grpc.aio.insecure_channel(self._address, OPTIONS) as channel:
            stub = worker_service_pb2_grpc.WorkerServiceStub(channel)
            while True:
                try:
                    await self._attend(stub.Work(), hello)
                except grpc.aio.AioRpcError:
                    pass
                await asyncio.sleep(PAUSE_S + random.uniform(0, self._jitter_s))

    async def _attend(self, call: Any, hello: wire.Hello) -> None:
        """One stream, until it ends."""
        await call.write(wire.WorkRequest(hello=hello))
        frame = await call.read()
        if not isinstance(frame, wire.WorkResponse):
            return
        welcome = frame.welcome
        hello.session_id, hello.session_secret = welcome.session_id, welcome.session_secret
        self._welcomed.put_nowait((time.monotonic(), welcome.resumed))
        beating = asyncio.create_task(_beat(call, welcome.heartbeat_interval.ToMilliseconds() / 1000))
        try:
            while isinstance(await call.read(), wire.WorkResponse):
                pass
        finally:
            beating.cancel()


async def _beat(call: Any, interval_s: float) -> None:
    sequence = 0
    while True:
        await asyncio.sleep(interval_s)
        sequence += 1
        await call.write(wire.WorkRequest(heartbeat=wire.Heartbeat(sequence=sequence)))


async def main() -> None:
    """Obey until the orders end."""
    await obey_async(Returning(sys.argv[1], float(sys.argv[2])).order)


if __name__ == "__main__":
    uvloop.run(main())
