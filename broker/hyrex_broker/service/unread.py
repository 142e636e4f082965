"""Answers that nobody has read yet. Who asks for large ones and reads none of them would fill the memory:
HTTP/2 lets him, for each call, as long as it lives.

So a connection has few such calls at work while its others wait, and what all connections have
not read together is bounded in bytes.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, Final
from weakref import WeakValueDictionary

from hyrex_broker.domain.errors import TooMuchUnread
from hyrex_broker.service.inflight import BROKER_BYTES, PATIENCE_S
from hyrex_broker.service.receiving import Context

LARGE_ANSWERS: Final = frozenset(
    f"/hyrex.v1.{method}"
    for method in (
        "TaskService/GetTask",
        "TaskService/ListTasks",
        "AdminService/ListWorkers",
        "QueueService/ListQueues",
    )
)
"""Methods whose answers may be large."""
AT_ONCE: Final = 8
"""Calls of one connection; their answers may have 16 MiB each."""
_SMALL_BYTES: Final = 64 * 1024


class Unread:
    """The large answers of one broker."""

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
        try:
            async with asyncio.timeout(PATIENCE_S):
                await places.acquire()
        except TimeoutError:
            raise TooMuchUnread(f"this connection has {AT_ONCE} answers", str(AT_ONCE)) from None
        _at_the_end(context, places.release)

    def _count(self, context: Context, answer: Any) -> None:
        """An answer is ready to be sent. Raises TooMuchUnread if too much is unread already."""
        size = answer.ByteSize()
        if size <= _SMALL_BYTES:
            return
        if self._bytes + size > BROKER_BYTES:
            raise TooMuchUnread(f"this broker has answers of {self._bytes} bytes", str(BROKER_BYTES))
        self._bytes += size
        _at_the_end(context, lambda: self._give(size))

    def _give(self, size: int) -> None:
        self._bytes -= size


def _at_the_end(context: Any, done: Callable[[], None]) -> None:
    """Call `done` once the call has ended and its answer is on its way, or its caller has left."""
    context.add_done_callback(lambda _: done())
