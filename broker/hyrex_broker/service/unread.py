"""Bounds the answers that callers have not read: one that asks for many and reads none would fill the memory.

HTTP/2 does not prevent that. So only few calls with large answers are served at once for one connection, and
the bytes that all connections together have not read are bounded.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, Final, NamedTuple
from weakref import WeakValueDictionary

from hyrex_broker.domain.errors import TooMuchUnread
from hyrex_broker.service.hanging_up import hang_up
from hyrex_broker.service.inflight import BROKER_BYTES, MIB, PATIENCE_S
from hyrex_broker.service.receiving import Context

LARGE_ANSWERS: Final = frozenset(
    f"/hyrex.v1.{method}"
    for method in (
        "TaskService/GetTask",
        "TaskService/ListTasks",
        "AdminService/ListWorkers",
        "QueueService/ListQueues",
        "ScheduleService/ListSchedules",
    )
)
"""Methods whose answers may be large."""
AT_ONCE: Final = 8
"""Calls of one connection; their answers may have 16 MiB each."""
_SMALL_BYTES: Final = 64 * 1024
_MOST_BYTES: Final = 16 * MIB


class Unread:
    """Serves the calls of one broker that have large answers."""

    def __init__(self) -> None:
        self._places: WeakValueDictionary[str, asyncio.Semaphore] = WeakValueDictionary()
        self._bytes = 0

    async def answer(self, behaviour: Callable[..., Awaitable[Any]], request: Any, context: Context) -> Any:
        """Serve a call when it may be served. Raises TooMuchUnread."""
        await self._place(context)
        answer = await behaviour(request, context)
        self._count(context, answer)
        return answer

    async def _place(self, context: Context) -> None:
        """Wait until this call may be served; its place is free when it ends. Raises TooMuchUnread."""
        peer = context.peer()
        places = self._places.setdefault(peer, asyncio.Semaphore(AT_ONCE))
        await _entered(places, f"this connection has {AT_ONCE} answers")
        _at_the_end(context, places.release)

    def _count(self, context: Context, answer: Any) -> None:
        """Count an answer that is ready. Raises TooMuchUnread if too much is unread already."""
        size = answer.ByteSize()
        if size <= _SMALL_BYTES:
            return
        if self._bytes + size > BROKER_BYTES:
            raise TooMuchUnread(f"this broker has answers of {self._bytes} bytes", str(BROKER_BYTES))
        self._bytes += size
        _at_the_end(context, lambda: self._give(size))

    def _give(self, size: int) -> None:
        self._bytes -= size


class UnreadFrames:
    """Bounds the large frames of watches: few of a connection are made or unread at once.

    Where those of all connections are too many, the connection that has left one unread for longest is
    closed: gRPC lets go of what is written in no other way.
    """

    def __init__(self) -> None:
        self._places: WeakValueDictionary[str, asyncio.Semaphore] = WeakValueDictionary()
        self._held: dict[object, _Held] = {}

    @asynccontextmanager
    async def place(self, context: Context, size: int) -> AsyncIterator[None]:
        """Enter before a frame of so many bytes is made; leave when it is written. Raises TooMuchUnread."""
        if size <= _SMALL_BYTES:
            yield
            return
        peer = context.peer()
        places = self._places.setdefault(peer, asyncio.Semaphore(AT_ONCE))
        await _entered(places, f"this connection has {AT_ONCE} frames")
        key = object()
        try:
            size = min(size, _MOST_BYTES)  # of a task with more only a part is read
            self._make_room(size)
            self._held[key] = _Held(peer, size, time.monotonic())
            yield
        finally:
            self._held.pop(key, None)
            places.release()

    def _make_room(self, size: int) -> None:
        unread = sum(held.size for held in self._held.values())
        if unread + size <= BROKER_BYTES:
            return
        oldest = next(iter(self._held.values()))
        if time.monotonic() - oldest.since < PATIENCE_S or not hang_up(oldest.peer, "it reads no frames"):
            raise TooMuchUnread(f"this broker has frames of {unread} bytes", str(BROKER_BYTES))


class _Held(NamedTuple):
    """A frame that is being made or written."""

    peer: str
    size: int
    since: float


async def _entered(places: asyncio.Semaphore, found: str) -> None:
    """Wait for a place. Raises TooMuchUnread."""
    try:
        async with asyncio.timeout(PATIENCE_S):
            await places.acquire()
    except TimeoutError:
        raise TooMuchUnread(found, str(AT_ONCE)) from None


def _at_the_end(context: Any, done: Callable[[], None]) -> None:
    """Call `done` when the call has ended: its answer is being sent, or its caller has left."""
    context.add_done_callback(lambda _: done())
