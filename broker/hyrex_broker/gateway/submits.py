"""SubmitTasks and StreamSubmit: each task goes to the cell of its queue, with the others that do."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import ExitStack
from typing import Any, Final

from hyrex.transport.calls import Calls
from hyrex.transport.kept_status import keep_status
from hyrex.transport.submit_stream import SubmitStream
from hyrex.v1 import task_service_pb2 as pb
from hyrex_broker.domain.errors import CellAway
from hyrex_broker.gateway.cell import GatewayCell, Passed, answer_within_s, passed
from hyrex_broker.gateway.methods import method
from hyrex_broker.gateway.room import CellRoom
from hyrex_broker.gateway.routing import GatewayCells
from hyrex_broker.gateway.search import checked, common_error
from hyrex_broker.gateway.split import CellPart, merge_frame, merge_tasks, split_frame, split_tasks
from hyrex_broker.service.frames import Begun, serve_frames
from hyrex_broker.service.receiving import Context

FRAMES_UNDER_WAY: Final = 8
"""Of one stream, to one cell."""
SHORT_PATIENCE_S: Final = 0.25
"""How long a frame of a stream that asks several cells waits for room in one of them: the next one, maybe for
another cell, is read after that."""
_SUBMIT: Final = method("TaskService", "SubmitTasks")
_STREAM: Final = "/hyrex.v1.TaskService/StreamSubmit"


class GatewaySubmits:
    """Submits to all cells."""

    def __init__(self, cells: GatewayCells, leaving: asyncio.Event) -> None:
        self._cells = cells
        self._leaving = leaving

    async def submit(self, request: pb.SubmitTasksRequest, context: Context) -> pb.SubmitTasksResponse:
        """Store tasks. Where one cell refuses, its tasks are refused; where all do alike, the call."""
        call, count = passed(context), len(request.tasks)
        parts = split_tasks(request.tasks, self._cells)
        answers = await asyncio.gather(*(_stored(part, call) for part in parts), return_exceptions=True)
        found = [checked(answer) for answer in answers]
        if (error := common_error(found)) is not None:
            raise error
        return merge_tasks(parts, found, count)

    async def stream(self, frames: AsyncIterator[pb.StreamSubmitRequest], context: Context) -> None:
        """Store frames as they come. The stream to a cell is begun with its first frame."""
        streams = _Streams(passed(context), context)
        try:
            await serve_frames(frames, context, self._leaving, lambda frame: self._begin(frame, streams))
        finally:
            streams.close()

    async def _begin(self, frame: pb.StreamSubmitRequest, streams: "_Streams") -> Begun:
        sequence = frame.sequence
        parts = split_frame(frame, self._cells)
        entered = [await streams.enter(part) for part in parts]

        async def answer() -> pb.StreamSubmitResponse:
            calls = (streams.store(part, place) for part, place in zip(parts, entered, strict=True))
            answers = [checked(each) for each in await asyncio.gather(*calls, return_exceptions=True)]
            error = common_error(answers)
            if error is not None and not isinstance(error, CellAway):
                raise error
            return merge_frame(sequence, parts, answers)

        return Begun(answer, lambda: None)


async def _stored(part: CellPart, call: Passed) -> Any:
    size = part.request.ByteSize()
    await part.cell.room.enter(size, call.within_s)
    try:
        return await part.cell.ask(_SUBMIT, part.request, call)
    finally:
        part.cell.room.leave(size)


class _Place:
    """Room for one part of a frame; or why there is none."""

    def __init__(self, size: int, body: bytes, refusal: CellAway | None) -> None:
        self.size = size
        self.body = body
        self.refusal = refusal


class _Streams:
    """The streams of one caller to the cells."""

    def __init__(self, call: Passed, context: Context) -> None:
        self._call = call
        self._context = context
        self._of: dict[GatewayCell, CellStream] = {}

    async def enter(self, part: CellPart) -> _Place:
        """Wait for room for a part, not long. Raises FlowControl."""
        body = part.request.SerializeToString()
        stream = self._of.get(part.cell)
        if stream is None:
            stream = self._of[part.cell] = CellStream(part.cell, self._call)
        try:
            await stream.enter(len(body), self._patience_s())
        except CellAway as error:
            return _Place(len(body), b"", error)
        return _Place(len(body), body, None)

    async def store(self, part: CellPart, place: _Place) -> Sequence[pb.PlacedResult]:
        """What is not simply stored of a part. Raises CellAway, Relayed."""
        if place.refusal is not None:
            raise place.refusal
        stream = self._of[part.cell]
        try:
            return await stream.store(place.body, answer_within_s(self._context))
        finally:
            stream.leave(place.size)

    def _patience_s(self) -> float:
        within_s = answer_within_s(self._context)
        return within_s if len(self._of) == 1 else min(within_s, SHORT_PATIENCE_S)

    def close(self) -> None:
        """End them."""
        for stream in self._of.values():
            stream.close()


class CellStream:
    """A caller's stream to one cell."""

    def __init__(self, cell: GatewayCell, call: Passed) -> None:
        """Raises FlowControl."""
        self._cell = cell
        self._call = call
        self._window = CellRoom(cell.name, FRAMES_UNDER_WAY, "frames")
        self._channel: Any = None
        self._frames = SubmitStream(self._begin)
        self._bytes = 0
        self._place = ExitStack()
        self._connection = self._place.enter_context(cell.connections.lasting())

    async def enter(self, size: int, patience_s: float) -> None:
        """Wait for room. Raises CellAway."""
        await self._window.enter(1, patience_s)
        try:
            await self._cell.room.enter(size, patience_s)
        except BaseException:
            self._window.leave(1)
            raise
        self._bytes += size

    def leave(self, size: int) -> None:
        """A part is answered."""
        self._window.leave(1)
        self._cell.room.leave(size)
        self._bytes -= size

    def close(self) -> None:
        """End it. What it holds of the cell's room is given back, also that of parts whose answering was
        cancelled before it had begun."""
        self._frames.close()
        self._cell.room.leave(self._bytes)
        self._bytes = 0
        self._place.close()

    async def store(self, body: bytes, within_s: float) -> Sequence[pb.PlacedResult]:
        """Store a part. Raises CellAway, Relayed."""

        async def once(calls: Calls) -> Sequence[pb.PlacedResult]:
            self._channel = calls.channel
            return await self._frames.submit(body)

        try:
            return await self._cell.asked(self._connection, once, within_s, repeats=True)
        except CellAway as error:
            if not error.is_broken_off:
                self._frames.close()  # what nobody waits for any more would stay in its queue, uncounted
            raise

    def _begin(self) -> Any:
        stream: Any = self._channel.stream_stream(_STREAM, None, pb.StreamSubmitResponse.FromString)
        return keep_status(stream(metadata=self._call.metadata))
