"""Reads the messages of calls: counts them while they are in flight, and checks them before parsing.

Every call is served as one with a stream of requests, also a unary one. So a message is bounded before it is
received, and a call without any message gets a status.
"""

from collections.abc import AsyncIterator, Callable
from typing import Any, Protocol, Self, TypeAlias

import grpc.aio
from google.protobuf.message import DecodeError

Context: TypeAlias = grpc.aio.ServicerContext[Any, Any]
Decode: TypeAlias = Callable[[bytes], Any]

EOF: Any = grpc.aio.EOF  # type: ignore[attr-defined]  # its stubs lack it


class MessageSource(Protocol):
    """Reads and counts the messages of calls."""

    async def read_first(self, context: Any, peer: str) -> Any:
        """The first body of a call, or EOF. Raises a BrokerError if it may not be read."""
        ...

    async def read(self, context: Any, peer: str) -> Any:
        """The next body of a call of this connection, or EOF. Raises a BrokerError if it may not be read."""
        ...

    def give(self, peer: str, size: int) -> None:
        """Note that so many bytes of what was read are answered."""
        ...


class Receiving:
    """The messages of one call, as a context manager; when it is left, none of them counts any more."""

    def __init__(self, context: Context, decode: Decode, source: MessageSource) -> None:
        self._context = context
        self._decode = decode
        self._source = source
        self._read = source.read_first
        self._peer = context.peer()
        self._held = 0
        self._last = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._give(self._held)

    async def only(self) -> Any:
        """The message of a call that has one. Raises Overloaded, TooManyItems, DecodeError."""
        message = await self._next()
        if message is EOF:
            raise DecodeError("the call ended before its message")
        return message

    def __aiter__(self) -> AsyncIterator[Any]:
        return self

    async def __anext__(self) -> Any:
        """The next message. The one before it does not count any more, unless it is held."""
        last, self._last = self._last, 0
        self._give(last)
        message = await self._next()
        if message is EOF:
            raise StopAsyncIteration
        return message

    def hold(self) -> Callable[[], None]:
        """Keep counting the message read last until the returned function is called."""
        size, self._last = self._last, 0
        return lambda: self._give(size)

    async def _next(self) -> Any:
        read, self._read = self._read, self._source.read
        body = await read(self._context, self._peer)
        if body is EOF:
            return body
        self._last = len(body)
        self._held += self._last
        return self._decode(body)

    def _give(self, size: int) -> None:
        size = min(size, self._held)  # a held message may be released after the end
        if size:
            self._held -= size
            self._source.give(self._peer, size)


def hold(messages: AsyncIterator[Any]) -> Callable[[], None]:
    """Keep counting the message read last of a call's messages until the returned function is called."""
    return messages.hold() if isinstance(messages, Receiving) else _nothing


def _nothing() -> None:
    """Releases a message that is not counted."""
