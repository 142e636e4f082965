"""The stream process's end of the line to its launcher."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator

from hyrex.worker.shared.launcher_messages import Line, Order, decode_lines, encode_line


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
        buffer = bytearray()
        while chunk := await self._heard():
            buffer += chunk
            for line in decode_lines(buffer):
                if isinstance(line, Order):
                    yield line.word

    async def _heard(self) -> bytes:
        """Empty at the end of the line: a reset (it was killed before it had read all) is one too."""
        try:
            return await asyncio.get_running_loop().sock_recv(self._socket, 4096)
        except OSError:
            return b""
