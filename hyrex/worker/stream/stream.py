"""One stream to a broker: Hello, Welcome, then one reader and one writer until it ends.

The end of a stream does not end the session or its runs. The reader waits for frames and for nothing else.
"""

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import grpc.aio

from hyrex.transport.errors import call_failure
from hyrex.v1 import worker_service_pb2 as wire
from hyrex.worker.shared.memory import boottime_ns
from hyrex.worker.stream import convert
from hyrex.worker.stream.columns import block_from
from hyrex.worker.stream.convert import Registration
from hyrex.worker.stream.outbox import StreamOutput
from hyrex.worker.stream.reports import tokens_of
from hyrex.worker.stream.session import WorkerSession
from hyrex.worker.stream.workload import Workload

if TYPE_CHECKING:
    from grpc.aio import StreamStreamCall

    Call = StreamStreamCall[wire.WorkRequest, wire.WorkResponse]

log = logging.getLogger("hyrex.worker")

_WELCOME_WITHIN_S: Final = 10.0
_NO_WELCOME: Final = "the broker did not answer Hello"
_SILENT_INTERVALS: Final = 2.5
"""A stream that brought no frame for so many heartbeat intervals counts as broken."""
_SILENT_AT_RISK: Final = 1.5
"""The same while trust is about to lapse: in what is left of it the session is to be resumed elsewhere."""
_RESUME_WITHIN: Final = 0.35
"""Of a lease: how long that may take."""


class StreamEnded(Exception):
    """The stream is over; `reason` is a name of hyrex.v1.ErrorReason or "", `text` is for people."""

    def __init__(self, text: str, reason: str = "", welcomed: bool = False) -> None:
        super().__init__(text)
        self.reason = reason
        self.welcomed = welcomed


@dataclass(frozen=True, slots=True)
class StreamParts:
    """What every stream of one worker works with."""

    registration: Registration
    session: WorkerSession
    workload: Workload
    outbox: StreamOutput
    leave: Callable[[], None]  # called when an operator wants this worker to end


class Stream:
    """One stream, from its Hello to its end."""

    def __init__(self, parts: StreamParts, call: "Call") -> None:
        self._parts = parts
        self._call = call
        self._hung_up = ""  # why this side ended the stream
        self.proven = False  # the broker acknowledged something; a Welcome alone is no proof that it can work
        self.welcomed = asyncio.Event()
        self.sent_away = asyncio.Event()  # the broker drains
        self.leave_within_s: float | None = None  # the jitter for reconnecting, from a broker that drains
        self._last_read_ns = boottime_ns()
        self._silence: asyncio.TimerHandle | None = None

    async def run(self) -> None:
        """Read and write until the stream ends. Raises: StreamEnded, unless it ended with status OK."""
        self._parts.outbox.new_stream()
        try:
            await self._greet()
            writer = asyncio.create_task(self._write(), name="hyrex-stream-writer")
            writer.add_done_callback(self._writer_ended)
            self._watch_silence()
            try:
                await self._read()
            finally:
                if self._silence is not None:
                    self._silence.cancel()
                writer.cancel()
                await asyncio.gather(writer, return_exceptions=True)
        except grpc.aio.AioRpcError as error:
            raise StreamEnded(*_why(error), self.welcomed.is_set()) from None
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if not self._hung_up or task is None or task.cancelling():
                raise
            raise StreamEnded(self._hung_up, "", self.welcomed.is_set()) from None
        finally:
            self._call.cancel()

    def hang_up(self, why: str) -> None:
        """End the stream from this side; the session goes on."""
        self._hung_up = why
        self._call.cancel()

    def _welcome_within_s(self) -> float:
        """How long to wait for Welcome: not long while leases are held, to try another broker in time."""
        session = self._parts.session
        return (
            min(_WELCOME_WITHIN_S, max(1.0, session.terms.lease_duration_s / 4))
            if session.held
            else _WELCOME_WITHIN_S
        )

    async def _greet(self) -> None:
        parts, session = self._parts, self._parts.session
        within_s = self._welcome_within_s()
        timer = asyncio.get_running_loop().call_later(within_s, self.hang_up, _NO_WELCOME)
        sent_ns = boottime_ns()
        hello = convert.hello(parts.registration, session, parts.outbox.capacity.tell())
        try:
            # A write that waits for its connection is not woken when its call is cancelled (grpcio 1.85).
            async with asyncio.timeout(within_s):
                await self._call.write(hello)
        except TimeoutError:
            raise StreamEnded(_NO_WELCOME) from None
        frame = await self._call.read()
        self._last_read_ns = boottime_ns()
        timer.cancel()
        if not isinstance(frame, wire.WorkResponse) or not frame.HasField("welcome"):
            raise StreamEnded("the broker's first frame was not Welcome")
        welcome = frame.welcome
        resumed = bool(session.id) and welcome.resumed
        session.begin(welcome.session_id, welcome.session_secret, convert.terms(welcome))
        if not resumed:
            adopted = {ref.token for ref in welcome.adopted}
            parts.workload.begin_anew(adopted, was_trusted=session.trust.trusted())
            session.trust_from(sent_ns)
        parts.workload.revoke(ref.token for ref in welcome.revoked)
        parts.workload.feed()
        self.welcomed.set()

    async def _read(self) -> None:
        while True:
            frame = await self._call.read()
            self._last_read_ns = boottime_ns()
            if not isinstance(frame, wire.WorkResponse):
                return
            self._take(frame)

    def _take(self, frame: wire.WorkResponse) -> None:
        parts = self._parts
        match frame.WhichOneof("frame"):
            case "assignments":
                self._take_assignments(frame.assignments)
            case "report_ack":
                self.proven = True
                done = parts.outbox.reports.acknowledge(frame.report_ack.report_id)
                parts.session.settle(tokens_of(done))
            case "heartbeat_ack":
                self._take_heartbeat(frame.heartbeat_ack)
            case "cancel":
                for run in frame.cancel.runs:
                    parts.workload.cancel(run.token, run.reason)
            case "drain":
                self.leave_within_s = convert.seconds(frame.drain.reconnect_jitter)
                log.info("broker drains: %s", frame.drain.reason)
                self.sent_away.set()
            case "leave":
                log.info("asked to leave: %s", frame.leave.reason)
                parts.leave()
            case _:
                pass  # a frame that only later versions know

    def _take_assignments(self, assignments: wire.Assignments) -> None:
        session = self._parts.session
        try:
            blocks = [*map(block_from, assignments.groups)]
        except ValueError as error:
            raise StreamEnded(f"assignments that cannot be read: {error}", "", welcomed=True) from None
        session.received_through = max(session.received_through, assignments.sequence)
        self._parts.workload.receive(blocks)

    def _take_heartbeat(self, ack: wire.HeartbeatAck) -> None:
        parts = self._parts
        # While reports are unacknowledged, only their acknowledgement is a proof: the broker may refuse them.
        self.proven = self.proven or not len(parts.outbox.reports)
        was_trusted = parts.session.trust.trusted()
        parts.outbox.heartbeats.acknowledged(ack.sequence)
        parts.workload.revoke(ref.token for ref in ack.revoked)
        for run in ack.cancels:
            parts.workload.cancel(run.token, run.reason)
        if not was_trusted:
            parts.workload.feed()

    async def _write(self) -> None:
        """Send what is due. The reader reports errors of the call; any other error ends the stream."""
        outbox = self._parts.outbox
        try:
            while True:
                while (frame := outbox.next_frame()) is not None:
                    await self._call.write(frame)
                await outbox.wait()
        except (grpc.aio.AioRpcError, asyncio.InvalidStateError):
            return

    def _writer_ended(self, writer: asyncio.Task[None]) -> None:
        error = None if writer.cancelled() else writer.exception()
        if error is not None:
            log.error("the writer of the stream failed", exc_info=error)
            self.hang_up(f"its writer failed: {error!r}")

    def _watch_silence(self) -> None:
        """Hang up when the broker is silent. By a timer: the writer may wait for a broker that reads nothing,
        or have nothing to write until the next heartbeat."""
        left_s = self._silent_in_s()
        if left_s > 0:
            self._silence = asyncio.get_running_loop().call_later(left_s, self._watch_silence)
        else:
            self.hang_up("the broker is silent")

    def _silent_in_s(self) -> float:
        session = self._parts.session
        interval_s, quiet_s = session.terms.heartbeat_interval_s, (boottime_ns() - self._last_read_ns) / 1e9
        left_s = max(1.0, _SILENT_INTERVALS * interval_s) - quiet_s
        if not session.held:
            return left_s
        spare_s = session.trust_left_s() - _RESUME_WITHIN * session.terms.lease_duration_s
        return min(left_s, max(max(1.0, _SILENT_AT_RISK * interval_s) - quiet_s, spare_s))


def _why(error: grpc.aio.AioRpcError) -> tuple[str, str]:
    """The text and the reason of the error that a call ended with."""
    failure = call_failure(error)
    return str(failure), failure.reason
