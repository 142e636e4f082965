"""Keeps connections outside of asyncpg's pool between statements, unless somebody waits for that pool.

To take a connection from the pool and give it back costs two timeouts and an asyncio task: 8% of the broker's
time at a thousand small statements a second.
"""

import asyncio
import time
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

    def one(self) -> "Lent":
        """A context with a connection. Raises as asyncpg's acquire(), TimeoutError included."""
        return Lent(self)

    async def _give_back(self, connection: Any, generation: int, error: BaseException | None) -> None:
        # After an error it may be closed, or its statement may be being cancelled: the pool waits for that.
        kept = error is None and not (self._waiting or self._is_closing or _is_gone(connection))
        if kept and generation == self._generation:
            self._at_hand.append(connection)
        else:
            await self._pool.release(connection)

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


class Lent:
    """A connection that is lent to one statement or transaction, as a context. Not a generator, which costs
    each statement five more calls."""

    __slots__ = ("_connection", "_generation", "_of")

    def __init__(self, of: Connections) -> None:
        self._of = of

    async def __aenter__(self) -> Any:
        self._connection = await self._of._take()
        self._generation = self._of._generation
        return self._connection

    async def __aexit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        await self._of._give_back(self._connection, self._generation, error)


def _is_gone(connection: Any) -> bool:
    """Return True if it was lost; asyncpg takes a lost one from its holder, who may not even ask any more."""
    try:
        return bool(connection.is_closed())
    except asyncpg.InterfaceError:
        return True
