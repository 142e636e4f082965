"""The frames to be written to one Work stream: acknowledgements and cancels before assignments.

Their number is bounded: runs by the worker's capacity, acknowledgements by its unacknowledged reports. A
worker that does not read its stream fills only its own outbox, and is assigned nothing more.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

from hyrex.v1 import worker_service_pb2 as wire
from hyrex_broker.domain.assigned import AssignedBlock
from hyrex_broker.domain.errors import BrokerError, FlowControl
from hyrex_broker.domain.model import CancelOrder, LeaseRef
from hyrex_broker.service import times
from hyrex_broker.service import worker_convert as convert
from hyrex_broker.service.assignments import frames

FRAME_BYTES: Final = 1024 * 1024
BACKLOG_BYTES: Final = 8 * FRAME_BYTES
ALL_BACKLOGS_BYTES: Final = 96 * FRAME_BYTES
"""Of all streams of a broker. Beyond it none is assigned more while it has a frame's worth unsent."""
_URGENT_BYTES: Final = 8 * FRAME_BYTES
_FRAME_OVERHEAD_BYTES: Final = 200


def _cost(frame: wire.WorkResponse) -> int:
    return frame.ByteSize() + _FRAME_OVERHEAD_BYTES


class Backlogs:
    """The runs that all streams of a broker have not sent yet."""

    def __init__(self) -> None:
        self.size_bytes = 0


class StreamOutbox:
    """A SessionLink over one stream."""

    def __init__(self, backlogs: Backlogs | None = None) -> None:
        """`backlogs`: of all streams of this broker."""
        self._backlogs = backlogs or Backlogs()
        self._urgent: deque[wire.WorkResponse] = deque()
        self._runs: deque[tuple[wire.WorkResponse, int]] = deque()
        self._unsent_bytes = self._urgent_bytes = 0
        self._ended = asyncio.Event()
        self.runs_written = 0
        """Frames with runs that gRPC has taken."""
        self._filled = asyncio.Event()
        self.error: BrokerError | None = None
        """The error that ended the stream, if there was one."""
        self._finished = False

    @property
    def backlogged(self) -> bool:
        """Return True if so much is unsent that nothing should be added."""
        most = BACKLOG_BYTES if self._backlogs.size_bytes < ALL_BACKLOGS_BYTES else FRAME_BYTES
        return self._unsent_bytes > most or self.error is not None

    def sizes(self) -> dict[str, int]:
        """What waits to be written, for a report of this process (SIGUSR1)."""
        return {
            "frames": len(self._urgent),
            "frames of runs": len(self._runs),
            "bytes of runs": self._unsent_bytes,
        }

    def push(self, frame: wire.WorkResponse) -> None:
        """Send a frame before any assignment. Who leaves too many of them unread has its stream ended."""
        self._urgent_bytes += _cost(frame)
        if self._urgent_bytes > _URGENT_BYTES:
            self.end(FlowControl(f"{_URGENT_BYTES} bytes of acknowledgements are unread; read the stream"))
            return
        self._urgent.append(frame)
        self._filled.set()

    def push_assignments(self, before: int, sequence: int, blocks: Sequence[AssignedBlock]) -> None:
        """Send runs in frames of at most 1 MiB (or one run). Only the last frame has the sequence as the
        receipt for all of them; the others have `before`."""
        made = frames(blocks, FRAME_BYTES)
        for frame, _ in made:
            frame.assignments.sequence = before
        made[-1][0].assignments.sequence = sequence
        self._runs.extend(made)
        self._add_unsent(sum(cost for _, cost in made))
        self._filled.set()

    def push_heartbeat_ack(
        self, sequence: int, revoked: Sequence[LeaseRef], cancels: Sequence[CancelOrder]
    ) -> None:
        """Acknowledge a heartbeat."""
        ack = wire.HeartbeatAck(
            sequence=sequence, revoked=convert.refs(revoked), cancels=convert.cancel_runs(cancels)
        )
        self.push(wire.WorkResponse(heartbeat_ack=ack))

    def push_cancels(self, cancels: Sequence[CancelOrder]) -> None:
        """Ask for runs to stop."""
        self.push(wire.WorkResponse(cancel=wire.CancelRuns(runs=convert.cancel_runs(cancels))))

    def push_leave(self, reason: str) -> None:
        """Ask the worker to finish and leave."""
        self.push(wire.WorkResponse(leave=wire.Leave(reason=reason)))

    def push_broker_drain(self, deadline_s: float, jitter_s: float) -> None:
        """Tell the worker to reconnect elsewhere."""
        drain = wire.BrokerDrain(
            deadline=times.duration(deadline_s * 1000),
            reconnect_jitter=times.duration(jitter_s * 1000),
            reason="the broker is shutting down",
        )
        self.push(wire.WorkResponse(drain=drain))

    def end(self, error: BrokerError) -> None:
        """End the stream with an error, after what is urgent has been sent."""
        self.error = self.error or error
        self._filled.set()
        self._ended.set()

    async def ended(self) -> None:
        """Wait until the stream is to end with an error. The writer cannot notice that while it waits for a
        worker that does not read."""
        await self._ended.wait()

    def close(self) -> None:
        """Let go of what is unsent, and count no more: the stream has ended."""
        self._runs.clear()
        self._add_unsent(-self._unsent_bytes)
        self._backlogs = Backlogs()

    def _add_unsent(self, size: int) -> None:
        self._unsent_bytes += size
        self._backlogs.size_bytes += size

    def finish(self) -> None:
        """End the stream with OK, after what is urgent has been sent."""
        self._finished = True
        self._filled.set()

    async def write(self, write: Callable[[wire.WorkResponse], Awaitable[None]]) -> None:
        """Send until the end; raises the error that ended the stream, returns if it was finished."""
        while True:
            await self._filled.wait()
            self._filled.clear()
            while self._urgent or self._runs:
                if self._urgent:
                    urgent = self._urgent.popleft()
                    await write(urgent)
                    self._urgent_bytes -= _cost(urgent)
                elif self.error is None and not self._finished:
                    frame, cost = self._runs.popleft()
                    await write(frame)
                    self._add_unsent(-cost)
                    self.runs_written += 1
                else:
                    break
            if self.error is not None:
                raise self.error
            if self._finished:
                return
