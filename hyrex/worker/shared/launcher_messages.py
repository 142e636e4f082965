"""The messages between launcher and stream process: JSON lines over an inherited socket pair.

The stream process names its session, so that the launcher can end it; the launcher gives orders. When the
socket ends, the other process is gone.
"""

from typing import Final

import msgspec
from msgspec import Struct

BAD_OPTIONS: Final = 2
"""The exit status of a worker whose options cannot be used."""
REFUSED: Final = 4
"""The exit status of a worker that the broker will never accept."""


class SessionTold(Struct, frozen=True, tag="session"):
    """The session that this stream process holds."""

    id: str
    secret: bytes


class SessionOver(Struct, frozen=True, tag="over"):
    """The session ended with Goodbye, so that the launcher need not end it."""


class Order(Struct, frozen=True, tag="order"):
    """An order of the launcher; `word` is `drain` or `release`."""

    word: str


Line = SessionTold | SessionOver | Order
_decode = msgspec.json.Decoder(Line).decode


def encode_line(line: Line) -> bytes:
    """Encode a message as one line."""
    return msgspec.json.encode(line) + b"\n"


def decode_lines(buffer: bytearray) -> list[Line]:
    """Remove the complete lines from the front of the buffer; return their messages."""
    *lines, rest = bytes(buffer).split(b"\n")
    buffer[:] = rest
    return [_decode(line) for line in lines if line]
