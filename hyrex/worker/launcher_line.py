"""The line between launcher and stream process: JSON lines over an inherited socket pair.

The stream process tells its session, so that the launcher can end it; the launcher gives orders.
The end of the line means that the other side is gone.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator

import msgspec
from msgspec import Struct


class SessionTold(Struct, frozen=True, tag="session"):
    """The session that this stream process holds."""

    id: str
    secret: bytes


class SessionOver(Struct, frozen=True, tag="over"):
    """It ended with Goodbye; nobody needs to end it."""


class Order(Struct, frozen=True, tag="order"):
    """`drain` or `release`."""

    word: str


Line = SessionTold | SessionOver | Order
_decode = msgspec.json.Decoder(Line).decode


def encode_line(line: Line) -> bytes:
    """One line."""
    return msgspec.json.encode(line) + b"\n"


def decode_lines(buffer: bytearray) -> list[Line]:
    """Take the complete lines off the front of the buffer."""
    *lines, rest = bytes(buffer).split(b"\n")
    buffer[:] = rest
    return [_decode(line) for line in lines if line]


class LauncherLine:
    """The stream process's end."""

    def __init__(self, fd: int) -> None:
        """Take over the inherited socket."""
        self._socket = socket.socket(fileno=fd)
        self._socket.setblocking(False)

    def tell(self, line: Line) -> None:
        """Say something; a launcher that is gone hears nothing."""
        try:
            self._socket.send(encode_line(line))
        except OSError:
            pass

    async def orders(self) -> AsyncIterator[str]:
        """The launcher's orders; ends when the launcher is gone."""
        loop, buffer = asyncio.get_running_loop(), bytearray()
        while chunk := await loop.sock_recv(self._socket, 4096):
            buffer += chunk
            for line in decode_lines(buffer):
                if isinstance(line, Order):
                    yield line.word
