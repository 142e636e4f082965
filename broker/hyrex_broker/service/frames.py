"""StreamSubmit: frames are read as they come, and answered in whatever order they are done."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Final, NamedTuple, TypeAlias

from hyrex.v1 import task_service_pb2
from hyrex_broker.domain.futures import retrieve
from hyrex_broker.service.callers import token_ended, when_token_ends
from hyrex_broker.service.receiving import Context, hold

_LAST_WRITE_WITHIN_S: Final = 5.0


class Begun(NamedTuple):
    """A frame that was taken."""

    answer: Callable[[], Awaitable[task_service_pb2.StreamSubmitResponse]]
    """Its answer, after the commit."""
    written: Callable[[], None]
    """Called when the answer is written."""


Begin: TypeAlias = Callable[[task_service_pb2.StreamSubmitRequest], Awaitable[Begun]]


class _Answers:
    """Writes answers to one stream, one at a time. A write is never cancelled: gRPC could then send no
    status, and the caller would wait for ever."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._one = asyncio.Lock()
        self._under_way: asyncio.Future[None] | None = None

    async def write(self, response: task_service_pb2.StreamSubmitResponse) -> None:
        """Send an answer."""
        async with self._one:
            self._under_way = asyncio.ensure_future(self._context.write(response))
            self._under_way.add_done_callback(retrieve)  # of a caller that has left: nobody asks for it
            await asyncio.shield(self._under_way)

    async def settle(self, within_s: float) -> None:
        """Wait for the write under way, if there is one; not long, since a caller may not read."""
        if self._under_way is not None and not self._under_way.done():
            await asyncio.wait({self._under_way}, timeout=within_s)


async def serve_frames(
    frames: AsyncIterator[task_service_pb2.StreamSubmitRequest],
    context: Context,
    leaving: asyncio.Event,
    begin: Begin,
) -> None:
    """Answer frames until the caller ends the stream, its token ends, or `leaving` is set: then those that
    were read are answered. `begin` takes a frame; the next one is read when it has. Raises what an answer
    raises: that ends the stream."""
    answers, revoked, settle_within_s = _Answers(context), asyncio.Event(), _LAST_WRITE_WITHIN_S
    when_token_ends(revoked.set)

    async def answer(begun: Begun, release: Callable[[], None]) -> None:
        await answers.write(await begun.answer())
        release()
        begun.written()

    async def read() -> None:
        async for frame in frames:
            release = hold(frames)
            group.create_task(answer(await begin(frame), release))

    try:
        async with asyncio.TaskGroup() as group:
            ends = leaving.wait(), revoked.wait()
            either = group.create_task(read()), *map(group.create_task, ends)
            await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
            for task in either:
                task.cancel()
    except asyncio.CancelledError:
        settle_within_s = 0.0
        raise
    finally:
        await answers.settle(settle_within_s)
    if revoked.is_set():
        raise token_ended()
