"""Makes large payloads smaller with zlib."""

import zlib
from typing import Final

from hyrex.codec import Codec, PayloadInfo
from hyrex.errors import PayloadUnreadable

__all__ = ["Compressed"]

PLAIN: Final = b"\0"
SMALLER: Final = b"\1"


class Compressed(Codec):
    """Compresses payloads of more than `above_bytes`, where that makes them smaller."""

    name = "zlib"
    stage = 1

    def __init__(self, *, above_bytes: int = 1024, level: int = 6) -> None:
        if not isinstance(above_bytes, int) or above_bytes < 0:
            raise ValueError(f"above_bytes must be an int of 0 or more, got {above_bytes!r}")
        if not isinstance(level, int) or not 1 <= level <= 9:
            raise ValueError(f"level must be 1..9, got {level!r}")
        self._above_bytes = above_bytes
        self._level = level

    def encode(self, content: bytes, about: PayloadInfo) -> bytes:
        """Compress it if it pays."""
        if len(content) > self._above_bytes:
            smaller = zlib.compress(content, self._level)
            if len(smaller) < len(content):
                return SMALLER + smaller
        return PLAIN + content

    def decode(self, content: bytes, about: PayloadInfo, most_bytes: int) -> bytes:
        """Never makes more than `most_bytes`, whatever the content says."""
        if content[:1] == PLAIN:
            return content[1:]
        reader = zlib.decompressobj()
        try:
            found = reader.decompress(content[1:], most_bytes + 1)
        except zlib.error:
            found = b""
        if len(found) > most_bytes:
            raise PayloadUnreadable(
                f"{about.kind} of {about.task_name} decompress to more than {most_bytes:,} bytes"
            )
        if content[:1] != SMALLER or not reader.eof:
            raise PayloadUnreadable(f"{about.kind} of {about.task_name} are no zlib data, or cut off")
        return found
