"""What a child prints, as lines that a terminal can take, however long it makes them."""

from collections.abc import AsyncIterator
from typing import Final, Protocol

LONGEST_LINE_BYTES: Final = 10_000
_CHUNK_BYTES: Final = 64 * 1024


class Source(Protocol):
    """Where bytes come from: an asyncio.StreamReader."""

    async def read(self, n: int, /) -> bytes:
        """Up to n bytes; none at the end."""


async def lines_of(source: Source) -> AsyncIterator[str]:
    """Every line, without its end, until there are no more.

    Of a line that carriage returns write over (a progress bar) only the last writing is given. A line over
    LONGEST_LINE_BYTES is cut, and says by how much. Memory does not grow with a line.
    """
    line = _Line()
    while chunk := await source.read(_CHUNK_BYTES):
        first, *others = chunk.split(b"\n")
        line.add(first)
        for piece in others:
            yield str(line)
            line = _Line()
            line.add(piece)
    if line.begun:
        yield str(line)


class _Line:
    """One line that is still being written."""

    def __init__(self) -> None:
        self._kept = b""
        self._dropped = 0

    def add(self, piece: bytes) -> None:
        """Go on with it. A return at its very end may belong to the line's end, so it waits."""
        written = self._kept + piece
        text = written.rstrip(b"\r")
        last = text.rfind(b"\r") + 1
        if last:
            text, self._dropped = text[last:], 0
        self._dropped += max(0, len(text) - LONGEST_LINE_BYTES)
        self._kept = text[:LONGEST_LINE_BYTES] + (b"\r" if written.endswith(b"\r") else b"")

    @property
    def begun(self) -> bool:
        """True if anything is written on it."""
        return bool(self._kept)

    def __str__(self) -> str:
        text = self._kept.decode("utf-8", "replace").rstrip()
        return f"{text} ... ({self._dropped} more bytes)" if self._dropped else text
