"""A TCP proxy whose connections can be reset or silenced: what cables and middleboxes do.

Runs its event loop in a thread of its own; every method may be called from any thread.
"""

import asyncio
import contextlib
import socket
import struct
import threading
from collections.abc import Coroutine, Sequence
from typing import Any, Final

_CHUNK_BYTES: Final = 1 << 16
_ENDED_WITHIN_S: Final = 60.0
_ABORT: Final = struct.pack("ii", 1, 0)


class Proxy:
    """Forwards one local port to an address, while the cable holds."""

    def __init__(self, target: tuple[str, int]) -> None:
        self._target = target
        self._loop = asyncio.new_event_loop()
        self._open = asyncio.Event()
        self._open.set()
        self._writers: set[asyncio.StreamWriter] = set()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._thread = threading.Thread(target=self._run, name=f"proxy {self.port}", daemon=True)
        self._thread.start()

    @property
    def address(self) -> str:
        """Where clients connect."""
        return f"127.0.0.1:{self.port}"

    @property
    def carries(self) -> bool:
        """True if a connection goes through it."""
        return bool(self._writers)

    def reset(self) -> None:
        """Reset every connection, on both sides; new ones are welcome."""
        self._call(self._reset())

    def silence(self) -> None:
        """Let nothing through any more, without telling anybody."""
        self._call(self._set_open(False))

    def heal(self) -> None:
        """Let everything through again, what was held back first."""
        self._call(self._set_open(True))

    def close(self) -> None:
        """Reset everything and stop."""
        self._call(self._reset())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(_ENDED_WITHIN_S)

    def _call(self, work: Coroutine[Any, Any, None]) -> None:
        asyncio.run_coroutine_threadsafe(work, self._loop).result(_ENDED_WITHIN_S)

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        server = self._loop.run_until_complete(asyncio.start_server(self._serve, sock=self._listener))
        self._loop.run_forever()
        server.close()
        for task in asyncio.all_tasks(self._loop):
            task.cancel()
        self._loop.run_until_complete(asyncio.sleep(0))
        self._loop.close()

    async def _set_open(self, is_open: bool) -> None:
        if is_open:
            self._open.set()
        else:
            self._open.clear()

    async def _reset(self) -> None:
        for writer in list(self._writers):
            sock = writer.get_extra_info("socket")
            if sock is not None:
                with contextlib.suppress(OSError):
                    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _ABORT)
            writer.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        # Cancelled only by close(); nobody else asks how a connection ended.
        with contextlib.suppress(OSError, asyncio.CancelledError):
            self._writers.add(writer)
            try:
                await self._open.wait()
                far_reader, far_writer = await asyncio.open_connection(*self._target)
                self._writers.add(far_writer)
                try:
                    await asyncio.gather(self._pump(reader, far_writer), self._pump(far_reader, writer))
                finally:
                    self._writers.discard(far_writer)
                    far_writer.transport.abort()
            finally:
                self._writers.discard(writer)
                writer.transport.abort()

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while chunk := await reader.read(_CHUNK_BYTES):
            await self._open.wait()
            writer.write(chunk)
            await writer.drain()
        writer.close()


class Cables:
    """One proxy for each server of a database, disturbed together."""

    def __init__(self, targets: Sequence[tuple[str, int]]) -> None:
        self.each = [Proxy(target) for target in targets]

    @property
    def address(self) -> str:
        """Where clients connect, as the servers of a URL are written."""
        return ",".join(proxy.address for proxy in self.each)

    def silence(self) -> None:
        """Let nothing through any more, without telling anybody."""
        for proxy in self.each:
            proxy.silence()

    def heal(self) -> None:
        """Let everything through again, what was held back first."""
        for proxy in self.each:
            proxy.heal()

    def close(self) -> None:
        """Reset everything and stop."""
        for proxy in self.each:
            proxy.close()
