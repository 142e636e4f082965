"""Sends frames of tasks over one long call, each answered by its number. When a call ends, another is begun.

A frame costs two thirds of what a call of its own would (`python -m benchmarks.frames`). The end of a call
fails its unanswered frames. They may be repeated, since a task that was stored is recognised by its id.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, Final

import grpc
import grpc.aio

from hyrex.transport.errors import CallFailed, CallFailure, call_failure
from hyrex.v1 import task_service_pb2 as pb

__all__ = ["SubmitStream"]

# A frame has tasks of many callers, so its deadline does not depend on how long any of them waits.
FRAME_DEADLINE_S: Final = 10.0

Answers = Sequence[pb.PlacedResult]


class SubmitStream:
    """Begins a call with the first frame, and another one after its end. For one event loop."""

    def __init__(self, begin: Callable[[], Any]) -> None:
        """`begin` makes a StreamSubmit call whose requests are bytes."""
        self._begin = begin
        self._exchange: Exchange | None = None

    async def submit(self, groups: bytes) -> Answers:
        """Send an encoded frame without its sequence (see `convert.submit_groups`); the results of
        those tasks that were not simply stored. Raises CallFailed."""
        exchange = self._exchange
        if exchange is None or exchange.failure is not None:
            exchange = self._exchange = Exchange(self._begin())
        return await exchange.submit(groups)

    def close(self) -> None:
        """End the call, if there is one; what has no answer fails."""
        if self._exchange is not None:
            self._exchange.end(CallFailure(grpc.StatusCode.CANCELLED, "the caller is gone", "", {}))


class Exchange:
    """One call, from its first frame to its end."""

    def __init__(self, call: Any) -> None:
        self._call = call
        self._loop = asyncio.get_running_loop()
        self._last = 0
        self._answers: dict[int, asyncio.Future[Answers]] = {}
        self._outgoing: deque[bytes] = deque()
        self._something = asyncio.Event()
        self.failure: CallFailure | None = None
        self._tasks = (asyncio.create_task(self._read()), asyncio.create_task(self._write()))

    async def submit(self, groups: bytes) -> Answers:
        """Send a frame and wait for its answer. Raises CallFailed."""
        self._last += 1
        number = self._last
        answer = self._answers[number] = self._loop.create_future()
        self._outgoing.append(pb.StreamSubmitRequest(sequence=number).SerializeToString() + groups)
        self._something.set()
        overdue = self._loop.call_later(FRAME_DEADLINE_S, self._give_up)
        try:
            found: Answers = await answer
            return found
        finally:
            overdue.cancel()
            self._answers.pop(number, None)
            # Its exception keeps this frame, and so the call: see `end`.
            del answer

    def _give_up(self) -> None:
        """End the call, because a frame is not answered in time: whatever the reason, a new call may work."""
        text = f"no answer to a frame within {FRAME_DEADLINE_S:g} s"
        self.end(CallFailure(grpc.StatusCode.DEADLINE_EXCEEDED, text, "", {}))

    def end(self, failure: CallFailure) -> None:
        """End the call, and fail what has no answer."""
        if self.failure is not None:
            return
        self.failure = failure
        self._call.cancel()
        # A write that waits for its connection is not woken when its call is cancelled (grpcio 1.85).
        _, writer = self._tasks
        writer.cancel()
        # An ended asyncio task keeps its frames, and they keep the call: gRPC's threads would outlive the
        # client.
        del self._tasks, writer
        unanswered = [answer for answer in self._answers.values() if not answer.done()]
        for answer in unanswered:
            answer.set_exception(CallFailed(failure, shared=len(unanswered) > 1))

    async def _write(self) -> None:
        try:
            while True:
                await self._something.wait()
                self._something.clear()
                while self._outgoing:
                    await self._call.write(self._outgoing.popleft())
        except (grpc.aio.AioRpcError, asyncio.InvalidStateError):
            pass  # the reader gets the reason

    async def _read(self) -> None:
        failure = CallFailure(grpc.StatusCode.UNAVAILABLE, "the broker ended the stream", "", {})
        try:
            while isinstance(response := await self._call.read(), pb.StreamSubmitResponse):
                answer = self._answers.get(response.sequence)
                if answer is not None and not answer.done():
                    answer.set_result(response.results)
        except grpc.aio.AioRpcError as error:
            failure = call_failure(error)
        except asyncio.CancelledError:
            # A channel that closes cancels its calls just as our own end does.
            failure = CallFailure(grpc.StatusCode.CANCELLED, "channel closed", "", {})
            raise
        finally:
            self.end(failure)
