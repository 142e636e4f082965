"""Takes runs and reports them completed over the generated stubs; arguments: HOST:PORT CAPACITY [RATE].

RATE: so many runs a second at most.

Order: {"count": N}: answers when the reports of N more runs are acknowledged.
"""

import asyncio
import sys
import time
from typing import Any

import grpc.aio
import uvloop

from benchmarks.actors.orders import obey_async
from hyrex.v1 import worker_service_pb2 as wire
from hyrex.v1 import worker_service_pb2_grpc


class Worker:
    """One session that completes at once whatever it is assigned."""

    def __init__(
        self, stub: "worker_service_pb2_grpc.WorkerServiceAsyncStub", capacity: int, rate: int
    ) -> None:
        self._call = stub.Work()
        self._capacity = capacity
        self._task = wire.TaskDefinition(name="handle", queue="bench")
        if rate:
            self._task.rate.count = self._task.rate.burst = rate
            self._task.rate.period.FromSeconds(1)
        self._held: dict[int, list[int]] = {}
        self._received_through = 0
        self._reported = 0
        self._ended = 0.0
        self._acknowledged = 0
        self._target = 0
        self._reports: asyncio.Queue[wire.WorkRequest] = asyncio.Queue()
        self._done = asyncio.Event()

    async def begin(self) -> None:
        """Say Hello; returns after the Welcome."""
        hello = wire.Hello(
            worker_name="raw", host="bench", pid=1, sdk="raw-stubs/1", protocol_version=1,
            queue_patterns=["bench"], tasks=[self._task],
            capacity=[wire.PoolCapacity(maximum=self._capacity)],
        )  # fmt: skip
        await self._call.write(wire.WorkRequest(hello=hello))
        frame: Any = await self._call.read()
        self._interval_s = frame.welcome.heartbeat_interval.ToMilliseconds() / 1000

    async def run(self) -> None:
        """Work until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._read())
            group.create_task(self._write())
            group.create_task(self._beat())

    async def work(self, count: int) -> dict[str, Any]:
        """Return when `count` more reports are acknowledged."""
        self._target += count
        while self._acknowledged < self._target:
            self._done.clear()
            await self._done.wait()
        return {"ended": self._ended}

    async def _read(self) -> None:
        while frame := await self._next():
            kind = frame.WhichOneof("frame")
            if kind == "assignments":
                self._report(frame.assignments)
            elif kind == "report_ack":
                self._acknowledge(frame.report_ack)
        raise RuntimeError("the broker ended the stream")

    async def _next(self) -> wire.WorkResponse | None:
        frame = await self._call.read()
        return frame if isinstance(frame, wire.WorkResponse) else None

    def _report(self, assignments: wire.Assignments) -> None:
        self._received_through = assignments.sequence
        self._reported += 1
        report = wire.Report(report_id=self._reported)
        for group in assignments.groups:
            done = report.completed.add(task_ids=group.task_ids, tokens=group.tokens, elapsed_us=[1])
            done.results.extend([b"1"] * len(group.tokens))
        self._held[self._reported] = [token for group in assignments.groups for token in group.tokens]
        self._reports.put_nowait(wire.WorkRequest(report=report))

    def _acknowledge(self, ack: wire.ReportAck) -> None:
        if ack.stale_tokens or ack.duplicate_tokens:
            raise RuntimeError("a report was not accepted")
        self._acknowledged += len(self._held.pop(ack.report_id))
        if self._acknowledged >= self._target:
            self._ended = time.monotonic()
            self._done.set()

    async def _write(self) -> None:
        while True:
            await self._call.write(await self._reports.get())

    async def _beat(self) -> None:
        sequence = 0
        while True:
            await asyncio.sleep(self._interval_s)
            sequence += 1
            held = [token for tokens in self._held.values() for token in tokens]
            beat = wire.Heartbeat(
                sequence=sequence, held_tokens=held, received_through=self._received_through
            )
            self._reports.put_nowait(wire.WorkRequest(heartbeat=beat))


async def main() -> None:
    """Obey until the orders end."""
    async with grpc.aio.insecure_channel(sys.argv[1]) as channel, asyncio.TaskGroup() as group:
        capacity, rate, *_ = [*map(int, sys.argv[2:]), 0]
        worker = Worker(worker_service_pb2_grpc.WorkerServiceStub(channel), capacity, rate)
        await worker.begin()
        running = group.create_task(worker.run())
        await obey_async(worker.work)
        running.cancel()


if __name__ == "__main__":
    uvloop.run(main())
