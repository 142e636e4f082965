"""First messages that are still arriving: few of a connection at a time.

gRPC keeps what has arrived of a message, up to 16 MiB, and tells nobody of it. A proper first message comes
with its call, so a place is free again at once; one that takes its time makes way when others wait.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Any, Final

from hyrex_broker.domain.errors import ArrivesSlowly

AT_ONCE: Final = 8
"""Of one connection: 128 MiB."""
PATIENCE_S: Final = 5.0


class Arriving:
    """The places of one connection."""

    def __init__(self) -> None:
        self._since: dict[asyncio.Timeout, float] = {}
        self._waiting: deque[asyncio.Future[None]] = deque()

    async def first(self, read: Callable[[], Awaitable[Any]]) -> Any:
        """What `read` returns, once a first message may arrive. Raises ArrivesSlowly."""
        await self._wait_for_place()
        limit = asyncio.timeout(None)
        try:
            async with limit:
                self._since[limit] = asyncio.get_running_loop().time()
                return await read()
        except TimeoutError:
            if not limit.expired():
                raise
            # The reader itself raises: whoever ended its call from outside would have it end twice.
            raise ArrivesSlowly(AT_ONCE) from None
        finally:
            self._leave(limit)

    def _leave(self, limit: asyncio.Timeout) -> None:
        """It has arrived, or the call has ended."""
        self._since.pop(limit, None)
        self._admit_next()

    def _admit_next(self) -> None:
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
            except asyncio.CancelledError:
                if admitted.done() and not admitted.cancelled():
                    self._admit_next()  # its caller has gone, and the place is for another
                raise
            except TimeoutError:
                if self._since.pop(slowest, None) is not None:
                    slowest.reschedule(loop.time())
