"""Decides which frame the writer of a stream sends next.

It is made from the current state when it is sent, so there is no queue of frames that could grow.
Heartbeats and reports go before everything else.
"""

import asyncio

from hyrex.v1 import worker_service_pb2 as wire
from hyrex.worker.stream import convert
from hyrex.worker.stream.capacity import Announcements
from hyrex.worker.stream.heartbeat import HeartbeatClock
from hyrex.worker.stream.progress import ProgressNews
from hyrex.worker.stream.reports import ReportQueue
from hyrex.worker.stream.session import WorkerSession


class StreamOutput:
    """The next frame to send, by priority."""

    def __init__(self, session: WorkerSession) -> None:
        self.heartbeats = HeartbeatClock(session)
        self.reports = ReportQueue(self.wake)
        self.capacity = Announcements()
        self.progress = ProgressNews()
        self._session = session
        self._something = asyncio.Event()
        self._alarm: asyncio.TimerHandle | None = None
        self._drain_reason = ""
        self._drain_sent = True
        self._goodbye = False

    def wake(self) -> None:
        """Have the writer ask for the next frame: something may be due."""
        self._something.set()

    def drain(self, reason: str) -> None:
        """Tell the broker, on this stream and on later ones, that no new work is wanted."""
        self._drain_reason, self._drain_sent = reason, False
        self.wake()

    def say_goodbye(self) -> None:
        """End the session once everything else is sent."""
        self._goodbye = True
        self.wake()

    def new_stream(self) -> None:
        """Send again, on a new stream, what the broker may not have received on the last one."""
        self.heartbeats.forget()
        self.reports.repeat_all()
        self.progress.repeat_all()
        self._drain_sent = not self._drain_reason
        self.wake()

    async def wait(self) -> None:
        """Wait until something may be due."""
        await self._something.wait()
        self._something.clear()

    def _wake_when_due(self) -> None:
        """Set a timer for the next heartbeat.

        One for each heartbeat: a timeout around each wait took a twentieth of this process's time.
        """
        if self._alarm is not None:
            self._alarm.cancel()
        left_s = self.heartbeats.due_in_s()
        if left_s:
            self._alarm = asyncio.get_running_loop().call_later(left_s, self._wake_when_due)
        else:
            self.wake()

    def next_frame(self) -> wire.WorkRequest | None:
        """Return the most urgent frame; None if nothing is due."""
        if self.heartbeats.due():
            session = self._session
            sequence = self.heartbeats.beat()
            self._wake_when_due()
            told = self.progress.take(session.held)
            return convert.heartbeat(sequence, session.held, session.received_through, told)
        terms = self._session.terms
        next_report = self.reports.next_report(terms.max_unacknowledged_reports, terms.max_frame_bytes)
        if next_report is not None:
            return convert.report(*next_report)
        if not self._drain_sent:
            self._drain_sent = True
            return convert.worker_drain(self._drain_reason)
        if self.capacity.due():
            return convert.capacity_update(self.capacity.tell())
        if self._goodbye:
            self._goodbye = False
            return convert.goodbye()
        return None
