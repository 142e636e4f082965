"""Keeps connections outside of asyncpg's pool between statements, unless somebody waits for that pool.

To take a connection from the pool and give it back costs two timeouts and an asyncio task: 8% of the broker's
time at a thousand small statements a second.
"""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final

import asyncpg

_FULL_PATIENCE_S: Final = 2.0
_FULL_PAUSE_S: Final = 0.05


class Connections:
    """The connections of one pool."""

    def __init__(self, pool: Any, acquire_timeout_s: float) -> None:
        self._pool = pool
        self._acquire_timeout_s = acquire_timeout_s
        self._at_hand: list[Any] = []
        self._waiting = 0
        self._is_closing = False
        self._generation = 0

    @asynccontextmanager
    async def one(self) -> AsyncIterator[Any]:
        """A context with a connection. Raises as asyncpg's acquire(), TimeoutError included."""
        connection = await self._take()
        generation = self._generation
        try:
            yield connection
        except BaseException:
            # It may be closed, or its statement may be being cancelled: the pool waits for that.
            await self._pool.release(connection)
            raise
        if self._waiting or self._is_closing or _is_gone(connection) or generation != self._generation:
            await self._pool.release(connection)
        else:
            self._at_hand.append(connection)

    async def _take(self) -> Any:
        while self._at_hand:
            connection = self._at_hand.pop()
            if not _is_gone(connection):
                return connection
            await self._pool.release(connection)
        self._waiting += 1
        try:
            return await self._acquired()
        finally:
            self._waiting -= 1

    def sizes(self) -> dict[str, int]:
        """What is here now, for a report of this process (SIGUSR1)."""
        size, idle = self._pool.get_size(), self._pool.get_idle_size() + len(self._at_hand)
        return {"connections": size, "free": idle, "waiting": self._waiting}

    async def _acquired(self) -> Any:
        """Take one from the pool. If Postgres accepts no more connections, wait for one of the present
        ones."""
        until = time.monotonic() + _FULL_PATIENCE_S
        while True:
            try:
                return await self._pool.acquire(timeout=self._acquire_timeout_s)
            except asyncpg.TooManyConnectionsError:
                if not self._pool.get_size() or time.monotonic() > until:
                    raise
            await asyncio.sleep(_FULL_PAUSE_S)

    async def replace(self) -> None:
        """Close every connection that is not in use, and the others when they are given back."""
        self._generation += 1
        await self._pool.expire_connections()
        idle, self._at_hand = self._at_hand, []
        for connection in idle:
            if not _is_gone(connection):
                connection.terminate()
            await self._pool.release(connection)

    def terminate(self) -> None:
        """Close all at once, without waiting; those that wait for one get an error."""
        self._pool.terminate()

    async def close(self) -> None:
        """Close all when they are given back."""
        self._is_closing = True
        while self._at_hand:
            await self._pool.release(self._at_hand.pop())
        await self._pool.close()


def _is_gone(connection: Any) -> bool:
    """Return True if it was lost; asyncpg takes a lost one from its holder, who may not even ask any more."""
    try:
        return bool(connection.is_closed())
    except asyncpg.InterfaceError:
        return True
