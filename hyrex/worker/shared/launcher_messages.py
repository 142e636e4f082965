"""The line between launcher and stream process: JSON lines over an inherited socket pair.

The stream process tells its session, so that the launcher can end it; the launcher gives orders.
The end of the line means that the other side is gone.
"""

from __future__ import annotations

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
