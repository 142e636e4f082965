"""First messages that are still arriving: few of a connection at a time.

gRPC keeps what has arrived of a message, up to 16 MiB, and tells nobody of it. A proper first message comes
with its call, so a place is free again at once; one that takes its time makes way when others wait.
"""

import asyncio
from collections import deque
from contextlib import suppress
from typing import Any, Final

import grpc.aio

from hyrex_broker.domain.errors import ArrivesSlowly
from hyrex_broker.service.errors import abort, to_status
from hyrex_broker.service.receiving import Context

AT_ONCE: Final = 8
"""Of one connection: 128 MiB."""
PATIENCE_S: Final = 5.0


class Evictions:
    """Ends calls from outside; their readers find that they have ended."""

    def __init__(self, at_once: int) -> None:
        """`at_once`: of how many the caller was one."""
        self._at_once = at_once
        self._tasks: set[asyncio.Task[None]] = set()

    def evict(self, context: Context) -> None:
        """Tell a caller that others waited for its message."""
        task = asyncio.get_running_loop().create_task(_end(context, self._at_once))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


async def _end(context: Context, at_once: int) -> None:
    with suppress(grpc.aio.AbortError, grpc.aio.UsageError, grpc.aio.InternalError):
        await abort(context, to_status(ArrivesSlowly(at_once)))


class Arriving:
    """The places of one connection."""

    def __init__(self, evictions: Evictions) -> None:
        self._evictions = evictions
        self._since: dict[Any, float] = {}
        self._waiting: deque[asyncio.Future[None]] = deque()

    async def enter(self, context: Any) -> None:
        """Wait until a first message may arrive. Leave afterwards, whatever happens."""
        if len(self._since) >= AT_ONCE:
            await self._wait_for_place()
        self._since[context] = asyncio.get_running_loop().time()

    def leave(self, context: Any) -> None:
        """It has arrived, or the call has ended."""
        self._since.pop(context, None)
        while self._waiting:
            admitted = self._waiting.popleft()
            if not admitted.done():
                admitted.set_result(None)
                return

    @property
    def is_empty(self) -> bool:
        """Return True if nothing arrives and nobody waits."""
        return not self._since and not self._waiting

    async def _wait_for_place(self) -> None:
        loop = asyncio.get_running_loop()
        while len(self._since) >= AT_ONCE:
            slowest, since = next(iter(self._since.items()))
            admitted = loop.create_future()
            self._waiting.append(admitted)
            try:
                async with asyncio.timeout_at(since + PATIENCE_S):
                    await admitted
            except TimeoutError:
                if self._since.pop(slowest, None) is not None:
                    self._evictions.evict(slowest)
