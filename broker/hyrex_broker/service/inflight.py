"""Bounds the bytes in flight (received and not answered yet), for each connection and for the broker.

Nothing is read from a caller beyond its bound, so that HTTP/2 flow control stops it. Only if that lasts (the
database is unreachable) is it refused: RESOURCE_EXHAUSTED with a RetryInfo. A message takes about twice its
size in memory until it is stored.
"""

import asyncio
from collections import deque
from typing import Any, Final

from hyrex_broker.domain.errors import Overloaded
from hyrex_broker.service.arriving import Arriving
from hyrex_broker.service.receiving import EOF

MIB: Final = 1024 * 1024
CONNECTION_BYTES: Final = 32 * MIB
BROKER_BYTES: Final = 96 * MIB
_OVERSHOOT_BYTES: Final = 32 * MIB
"""For messages that were being received when the bound was reached."""
_RESERVE_BYTES: Final = 16 * MIB
"""For small messages beyond that, so that callers that fill the broker do not exclude the others."""
_SMALL_BYTES: Final = 64 * 1024
PATIENCE_S: Final = 5.0


class Budget:
    """The bytes that all calls of one broker have in flight."""

    def __init__(self) -> None:
        self._bytes = 0
        self._of: dict[str, int] = {}
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._arriving: dict[str, Arriving] = {}

    async def read_first(self, context: Any, peer: str) -> Any:
        """As `read`, the first time for a call: few of a connection arrive at once. Raises ArrivesSlowly."""
        places = self._arriving.get(peer)
        if places is None:
            places = self._arriving[peer] = Arriving()
        try:
            return await places.first(lambda: self.read(context, peer))
        finally:
            if places.is_empty:
                self._arriving.pop(peer, None)

    async def read(self, context: Any, peer: str) -> Any:
        """The next body of a call of this connection, counted, or EOF. Raises Overloaded."""
        if not self.has_room(peer):
            await self._room(peer)
        body = await context.read()
        if body is not EOF:
            self._take(peer, len(body))
        return body

    def has_room(self, peer: str) -> bool:
        """Return True if another message of this connection may be read."""
        mine = self._of.get(peer, 0)
        most = BROKER_BYTES if mine > _SMALL_BYTES else BROKER_BYTES + _OVERSHOOT_BYTES + _RESERVE_BYTES
        return mine < CONNECTION_BYTES and self._bytes < most

    async def _room(self, peer: str) -> None:
        """Wait until another message of this connection may be read. Raises Overloaded."""
        try:
            async with asyncio.timeout(PATIENCE_S):
                while not self.has_room(peer):
                    room = asyncio.get_running_loop().create_future()
                    self._waiting.append(room)
                    await room
        except TimeoutError:
            raise self._refusal(peer) from None

    def _take(self, peer: str, size: int) -> None:
        """Count a message. Raises Overloaded if it is one too many."""
        mine = self._of.get(peer, 0) + size
        if size > _SMALL_BYTES and (
            mine > CONNECTION_BYTES + _OVERSHOOT_BYTES or self._bytes + size > BROKER_BYTES + _OVERSHOOT_BYTES
        ):
            raise self._refusal(peer)
        self._of[peer] = mine
        self._bytes += size

    def give(self, peer: str, size: int) -> None:
        """Note that messages of so many bytes are answered."""
        left = self._of[peer] - size
        if left:
            self._of[peer] = left
        else:
            del self._of[peer]
        self._bytes -= size
        waiting, self._waiting = self._waiting, deque()
        for room in waiting:
            if not room.done():
                room.set_result(None)

    def _refusal(self, peer: str) -> Overloaded:
        mine = self._of.get(peer, 0)
        if mine >= CONNECTION_BYTES:
            return Overloaded("this connection", mine, CONNECTION_BYTES)
        return Overloaded("this broker", self._bytes, BROKER_BYTES)
