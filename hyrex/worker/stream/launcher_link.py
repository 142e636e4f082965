"""The stream process's end of the connection to its launcher: a socket that carries JSON lines."""

import asyncio
import socket
from collections.abc import AsyncIterator

from hyrex.worker.shared.launcher_messages import Line, Order, decode_lines, encode_line


class LauncherLine:
    """Sends lines to the launcher, and yields its orders."""

    def __init__(self, fd: int) -> None:
        """Take over the inherited socket."""
        self._socket = socket.socket(fileno=fd)
        self._socket.setblocking(False)

    def tell(self, line: Line) -> None:
        """Send a line; does nothing if the launcher is gone."""
        try:
            self._socket.send(encode_line(line))
        except OSError:
            pass

    async def orders(self) -> AsyncIterator[str]:
        """Yield the launcher's orders; ends when the launcher is gone."""
        buffer = bytearray()
        while chunk := await self._read():
            buffer += chunk
            for line in decode_lines(buffer):
                if isinstance(line, Order):
                    yield line.word

    async def _read(self) -> bytes:
        """Return what arrived; empty when the launcher is gone, also if its death has reset the socket."""
        try:
            return await asyncio.get_running_loop().sock_recv(self._socket, 4096)
        except OSError:
            return b""
