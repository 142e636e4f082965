"""Sends frames of tasks, a few at a time, and repeats them with the same ids until they are answered.

Runs in the client's thread. If no broker is reachable, the frame goes back to the send queue, and all sending
pauses a little. How long callers wait is not decided here.
"""

import asyncio
import random
import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from hyrex.backend.ids import task_ids
from hyrex.backend.outgoing import Postponed, Progress, SendResult, Untimely
from hyrex.client.outbox import Frame, SendQueue
from hyrex.client.waiters import ThreadWaiter, Waiter, notify_all
from hyrex.errors import SendRejected
from hyrex.transport.calls import Calls
from hyrex.transport.connection import BrokerConnection
from hyrex.transport.errors import CallFailed, CallFailure

__all__ = ["FRAMES_IN_FLIGHT", "FrameSender", "as_known"]

FRAMES_IN_FLIGHT: Final = 4
# The next frame does not wait any longer than this for the one in flight.
OVERDUE_S: Final = 0.05
# How long a frame waits for what threads send that were just answered.
EXPECT_S: Final = 0.002
SHORTEST_PAUSE_S: Final = 0.05
LONGEST_PAUSE_S: Final = 1.0


class FrameSender:
    """Takes frames from the send queue while there is a connection."""

    def __init__(self, outbox: SendQueue, connection: BrokerConnection, group: asyncio.TaskGroup) -> None:
        self._outbox = outbox
        self._connection = connection
        self._group = group
        self._loop = asyncio.get_running_loop()
        outbox.expect(0)  # forget the threads that an earlier FrameSender expected
        self._in_flight: set[Frame] = set()
        self._failures = 0
        self._paused = False
        self._doubtful = 0  # frames that failed together because of one of them: they are sent one at a time
        self._sent_at = 0.0
        self._overdue: asyncio.TimerHandle | None = None
        self._expecting: asyncio.TimerHandle | None = None
        self.last_failure: CallFailure | None = None

    @property
    def is_busy(self) -> bool:
        """True while a frame is in flight."""
        return bool(self._in_flight)

    def pump(self) -> None:
        """Send what can be sent now."""
        while not self._paused and not self._outbox.is_empty:
            if not self._may_send() or self._connection.usable() is None:
                return
            frame = self._outbox.take()
            if frame is not None:
                self._in_flight.add(frame)
                self._sent_at = self._loop.time()
                self._group.create_task(self._deliver(frame))

    def _may_send(self) -> bool:
        """Return True if a frame may be sent now.

        Small frames go one at a time, so that tasks gather for the next. Full frames overlap, and a frame
        that takes long does not delay the next.
        """
        if self._outbox.is_expecting:
            return False
        count = len(self._in_flight)
        if count and self._doubtful:
            return False
        if not count or (count < FRAMES_IN_FLIGHT and self._outbox.fills_a_frame):
            return True
        overdue = self._loop.time() - self._sent_at >= OVERDUE_S
        if not overdue and self._overdue is None:
            self._overdue = self._loop.call_later(OVERDUE_S, self._look_again)
        return overdue and count < FRAMES_IN_FLIGHT

    def _look_again(self) -> None:
        self._overdue = None
        self.pump()

    async def _deliver(self, frame: Frame) -> None:
        calls = self._connection.usable()
        try:
            if calls is None:
                self._outbox.put_back(frame)
            else:
                self._settle(frame, await self._submit(calls, frame))
        except CallFailed as error:
            self._failed(frame, error.failure, shared=error.shared)
        except SendRejected as error:
            self._refuse(frame, error)
        self._in_flight.discard(frame)
        self.pump()

    async def _submit(self, calls: Calls, frame: Frame) -> dict[int, SendResult]:
        try:
            with self._connection.look_after(calls):
                others = await calls.submit(frame.tasks())
        except CallFailed as error:
            if error.failure.repeatable:
                self._connection.leave(calls)
            raise
        self._connection.answered()
        return others

    def give_back(self) -> None:
        """Put the unanswered frames back into the queue, because this thread ends."""
        for frame in self._in_flight:
            self._outbox.put_back(frame)
        self._in_flight.clear()

    def _settle(self, frame: Frame, others: dict[int, SendResult]) -> None:
        self._failures = 0
        self._doubtful = max(0, self._doubtful - 1)
        self.last_failure = None
        finished: list[Waiter] = []
        first = 0
        for parcel, start, stop in frame.parts:
            parcel.outcomes[start:stop] = [Progress.STORED] * (stop - start)
            for at in range(start, stop) if others else ():
                if (outcome := others.get(first + at - start)) is not None:
                    parcel.outcomes[at] = as_known(outcome, is_first=not parcel.repeated)
            first += stop - start
            parcel.remaining -= stop - start
            parcel.answered_at = time.monotonic()
            if not parcel.remaining:
                finished.append(parcel.waiter)
        self._expect(finished)
        notify_all(finished)

    def _expect(self, finished: Sequence[Waiter]) -> None:
        threads = sum(isinstance(waiter, ThreadWaiter) for waiter in finished)
        if self._outbox.expect(threads):
            if self._expecting is not None:
                self._expecting.cancel()
            self._expecting = self._loop.call_later(EXPECT_S, self._expect_no_more)

    def _expect_no_more(self) -> None:
        """Stop waiting for expected threads that have not sent anything in time."""
        self._outbox.expect(0)
        self.pump()

    def _failed(self, frame: Frame, failure: CallFailure, *, shared: bool) -> None:
        self.last_failure = failure
        if shared:
            self._doubtful += 1
            if not failure.repeatable:
                self._outbox.put_back(frame)
                return
        if not failure.repeatable:
            self._doubtful = max(0, self._doubtful - 1)
            # An internal error of the broker may come before or after the commit: the task may be stored.
            unknown = failure.reason == "INTERNAL"
            self._refuse(frame, Progress.UNANSWERED if unknown else failure.exception())
            return
        self._outbox.put_back(frame)
        if self._paused:
            return
        self._failures += 1
        longest = min(SHORTEST_PAUSE_S * 2 ** min(self._failures, 8), LONGEST_PAUSE_S)
        self._paused = True
        pause_s = max(random.uniform(longest / 2, longest), failure.retry_after_s or 0.0)
        self._loop.call_later(pause_s, self._resume)

    def _resume(self) -> None:
        self._paused = False
        self.pump()

    def _refuse(self, frame: Frame, outcome: SendResult) -> None:
        finished: list[Waiter] = []
        for parcel, start, stop in frame.parts:
            parcel.outcomes[start:stop] = [outcome] * (stop - start)
            parcel.remaining -= stop - start
            if not parcel.remaining:
                finished.append(parcel.waiter)
        notify_all(finished)


def as_known(outcome: SendResult, *, is_first: bool) -> SendResult:
    """What a send's answer says of the task. If the broker refused the id for its time, new ids go by the
    broker's clock.

    `is_first`: no earlier attempt may have stored the task, so that it may get a new id, and is known not to
    be stored if there is no room for it.
    """
    if isinstance(outcome, Postponed):
        return outcome if is_first else replace(outcome, may_be_stored=True)
    if not isinstance(outcome, SendRejected) or outcome.reason != "TASK_ID_OUT_OF_WINDOW":
        return outcome
    server_time_ms = outcome.metadata.get("server_time_ms", "")
    if server_time_ms.isdigit():
        task_ids.correct_clock(int(server_time_ms))
    return Untimely(outcome) if is_first else outcome
