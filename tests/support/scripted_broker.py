"""A broker that the test scripts: a real gRPC server that records frames and says what it is told.

It keeps no state but what a test looks at, so a test can make it say what no broker should.
"""

import asyncio
import itertools
import json
import time
import uuid
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from typing import Any

import grpc
import grpc.aio
from google.protobuf.any_pb2 import Any as AnyMessage
from google.rpc.error_details_pb2 import ErrorInfo
from google.rpc.status_pb2 import Status

from hyrex.v1 import worker_service_pb2 as wire
from hyrex.v1.worker_service_pb2_grpc import WorkerServiceServicer, add_WorkerServiceServicer_to_server
from tests.support.columns import Assignment, ToldRun, told_runs

_tokens = itertools.count(1)


def assignment(name: str, arguments: dict[str, Any] | None = None, **fields: Any) -> Assignment:
    """A run to hand out, with an id and a token of its own."""
    return Assignment(
        task_id=str(uuid.uuid4()),
        token=next(_tokens) - (1 << 62),
        name=name,
        queue="default",
        payload=json.dumps(arguments or {}).encode(),
        submitted_at_us=time.time_ns() // 1000,
        **fields,
    )


def refusal(code: grpc.StatusCode, reason: str) -> tuple[grpc.StatusCode, tuple[tuple[str, bytes], ...]]:
    """A status with a reason, as a broker gives it."""
    detail = AnyMessage()
    detail.Pack(ErrorInfo(domain="hyrex.dev", reason=reason))
    status = Status(code=code.value[0], message="refused", details=[detail])
    return code, (("grpc-status-details-bin", status.SerializeToString()),)


class ScriptedBroker(WorkerServiceServicer):
    """Answers Hello, heartbeats and reports as a broker would, unless told otherwise."""

    def __init__(self) -> None:
        self.url = ""
        self.lease_s = 15.0
        self.max_unacknowledged = 1000
        self.acknowledge_heartbeats = True
        self.acknowledge_reports = True
        self.resume = True
        self.refusal: tuple[grpc.StatusCode, tuple[tuple[str, bytes], ...]] | None = None
        self.ends_at: dict[str, str] = {}  # kind of frame -> reason (INVALID_FIELD, ...), or "" for OK
        self.hellos: list[wire.Hello] = []
        self.frames: list[wire.WorkRequest] = []
        self.outcomes: dict[int, ToldRun] = {}
        self.reports: list[wire.Report] = []
        self.ended: list[wire.EndSessionRequest] = []
        self.goodbyes = 0
        self.capacity: dict[str, int] = {}
        self.slots: dict[str, int] = {}
        self.revoke_at_welcome: list[wire.LeaseRef] = []
        self.session_id = ""
        self.metadata: dict[str, str] = {}
        self._sequence = itertools.count(1)
        self._repeatable: set[int] = set()  # sequences of frames that a worker can read
        self._handed_out: dict[int, wire.WorkResponse] = {}  # by sequence
        self._calls: list[grpc.aio.ServicerContext[Any, Any]] = []
        self._outgoing: asyncio.Queue[wire.WorkResponse | None] = asyncio.Queue()
        self._changed = asyncio.Condition()

    # What a test does.

    async def assign(self, *runs: Assignment) -> None:
        """Hand out runs in one frame, each in a group of its own; again if their stream breaks."""
        frame = self._assignments([run.group() for run in runs])
        self._repeatable.add(frame.assignments.sequence)
        await self.say(frame)

    async def assign_groups(self, *groups: wire.AssignmentGroup) -> None:
        """Hand out runs in one frame, which may be one that no worker can read."""
        await self.say(self._assignments(groups))

    async def say(self, frame: wire.WorkResponse) -> None:
        """Send any frame."""
        await self._outgoing.put(frame)

    async def cancel(self, run: Assignment, reason: str = "not needed") -> None:
        """Push a cancel."""
        order = wire.CancelRun(task_id=run.task_id, token=run.token, reason=reason)
        await self.say(wire.WorkResponse(cancel=wire.CancelRuns(runs=[order])))

    async def cut(self) -> None:
        """End the stream without a word."""
        await self._outgoing.put(None)

    async def until(self, condition: Callable[[], object], within_s: float = 60.0) -> None:
        """Wait until something that the worker does has come about."""
        async with asyncio.timeout(within_s), self._changed:
            await self._changed.wait_for(lambda: bool(condition()))

    async def outcome(self, run: Assignment, within_s: float = 60.0) -> ToldRun:
        """How that run ended."""
        await self.until(lambda: run.token in self.outcomes, within_s)
        return self.outcomes[run.token]

    # What the worker sees.

    async def Work(self, request_iterator: Any, context: Any) -> None:  # type: ignore[override]  # noqa: N802
        """One stream."""
        self.metadata = dict(context.invocation_metadata())
        hello = (await anext(aiter(request_iterator))).hello
        self.hellos.append(hello)
        await self._notify()
        if self.refusal is not None:
            code, metadata = self.refusal
            await context.abort(code, "refused by the test", metadata)
        await context.write(wire.WorkResponse(welcome=self._welcome(hello)))
        await self._hand_out_again(context, hello)
        async with asyncio.TaskGroup() as group:
            writer = group.create_task(self._write(context))
            reader = group.create_task(self._read(request_iterator))
            await asyncio.wait([writer, reader], return_when=asyncio.FIRST_COMPLETED)
            writer.cancel()
            reader.cancel()
        if reader.done() and not reader.cancelled() and (reason := reader.result()):
            code, metadata = refusal(grpc.StatusCode.INVALID_ARGUMENT, reason)
            await context.abort(code, "refused by the test", metadata)

    async def EndSession(self, request: Any, context: Any) -> Any:  # noqa: N802
        """Record it."""
        self.ended.append(request)
        await self._notify()
        return wire.EndSessionResponse()

    def _welcome(self, hello: wire.Hello) -> wire.Welcome:
        resumed = bool(hello.session_id) and self.resume
        self.session_id = hello.session_id if resumed else str(uuid.uuid4())
        self.capacity = {pool.pool: pool.maximum for pool in hello.capacity}
        self.slots = {pool.pool: pool.slots for pool in hello.capacity}
        welcome = wire.Welcome(
            session_id=self.session_id,
            session_secret=b"secret",
            resumed=resumed,
            max_frame_bytes=1 << 20,
            max_unacknowledged_reports=self.max_unacknowledged,
            revoked=self.revoke_at_welcome,
            broker="scripted",
        )
        if resumed:
            welcome.adopted.extend(ref for ref in hello.held if ref not in self.revoke_at_welcome)
        welcome.lease_duration.FromMilliseconds(round(self.lease_s * 1000))
        welcome.heartbeat_interval.FromMilliseconds(round(self.lease_s * 1000 / 3))
        return welcome

    def _assignments(self, groups: Iterable[wire.AssignmentGroup]) -> wire.WorkResponse:
        return wire.WorkResponse(assignments=wire.Assignments(sequence=next(self._sequence), groups=groups))

    async def _hand_out_again(self, context: Any, hello: wire.Hello) -> None:
        """What a broken stream took with it: a loaded machine breaks one that no test meant to break."""
        resumed = hello.session_id and hello.session_id == self.session_id
        self._handed_out = {
            sequence: frame
            for sequence, frame in self._handed_out.items()
            if resumed and sequence > hello.received_through
        }
        for frame in self._handed_out.values():
            await context.write(frame)

    async def _write(self, context: Any) -> None:
        await self._notify()
        while (frame := await self._outgoing.get()) is not None:
            if frame.assignments.sequence in self._repeatable:
                self._handed_out[frame.assignments.sequence] = frame
            await context.write(frame)

    async def _read(self, frames: AsyncIterator[wire.WorkRequest]) -> str:
        """Answer frames; the reason why the stream must end, "" for none."""
        async for frame in frames:
            self.frames.append(frame)
            reason = self.ends_at.get(frame.WhichOneof("frame") or "")
            if reason is not None:
                return reason
            await self._answer(frame)
            await self._notify()
            if frame.HasField("goodbye"):
                self.goodbyes += 1
                await self._notify()
                break
        return ""

    async def _answer(self, frame: wire.WorkRequest) -> None:
        if frame.HasField("heartbeat"):
            # Silence would end the stream, and a new one would renew the lease: say what renews nothing.
            ack = wire.HeartbeatAck(sequence=frame.heartbeat.sequence)
            nothing = wire.WorkResponse(cancel=wire.CancelRuns())
            renewal = wire.WorkResponse(heartbeat_ack=ack)
            await self.say(renewal if self.acknowledge_heartbeats else nothing)
        elif frame.HasField("report"):
            self.reports.append(frame.report)
            self.outcomes.update((run.token, run) for run in told_runs(frame.report))
            if self.acknowledge_reports:
                await self.say(wire.WorkResponse(report_ack=wire.ReportAck(report_id=frame.report.report_id)))
        elif frame.HasField("capacity"):
            self.capacity.update((pool.pool, pool.maximum) for pool in frame.capacity.pools)
            self.slots.update((pool.pool, pool.slots) for pool in frame.capacity.pools)

    async def _notify(self) -> None:
        async with self._changed:
            self._changed.notify_all()


@asynccontextmanager
async def scripted_broker(port: int = 0) -> AsyncIterator[ScriptedBroker]:
    """Serve one on a free port."""
    broker = ScriptedBroker()
    server = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
    add_WorkerServiceServicer_to_server(broker, server)
    bound = server.add_insecure_port(f"127.0.0.1:{port}")
    broker.url = f"grpc://127.0.0.1:{bound}"
    await server.start()
    try:
        yield broker
    finally:
        async with asyncio.timeout(60):
            await server.stop(0)
