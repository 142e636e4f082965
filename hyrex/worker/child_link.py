"""The child's end of the socket: one thread reads, one writes, whatever is ready goes together.

An ending that comes alone leaves at once; those that follow within moments leave together. The
end of the socket is the end of the child.
"""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Callable

from hyrex.worker.frames import Ended, FromChild, ToChild, cut, decode_to_child, encode
from hyrex.worker.orders import ORPHANED
from hyrex.worker.outcome import Ending

_READ_BYTES = 1 << 18
# A lone ending leaves at once; a stream of them in frames at least this far apart. Without the gap
# a frame held one or two endings, because encoding a result lets go of the GIL (pydantic 2.50):
# 86 us of CPU in the child and 70 us in the stream process for a no-op task, 57 and 38 with it.
_GAP_S = 0.002


class ChildLink:
    """Sends to the stream process from any thread; hands what it says to one receiver."""

    def __init__(self, fd: int) -> None:
        """Take over the inherited socket."""
        self._socket = socket.socket(fileno=fd)
        self._messages: list[FromChild] = []
        self._endings: list[Ending] = []
        self._something = threading.Event()
        self._flushed = threading.Condition()
        self._writing = False

    def start(self, receive: Callable[[ToChild], None]) -> None:
        """Begin to read and write."""
        threading.Thread(target=self._read, args=(receive,), name="hyrex-read", daemon=True).start()
        threading.Thread(target=self._write, name="hyrex-write", daemon=True).start()

    def send(self, message: FromChild) -> None:
        """Send a message soon, after the endings before it."""
        self._messages.append(message)
        self._something.set()

    def end(self, ending: Ending) -> None:
        """Tell of a run that ended."""
        self._endings.append(ending)
        if not self._something.is_set():
            self._something.set()

    def flush(self, timeout_s: float = 5.0) -> None:
        """Wait until everything is sent."""
        with self._flushed:
            self._flushed.wait_for(lambda: not (self._messages or self._endings or self._writing), timeout_s)

    def _write(self) -> None:
        while True:
            self._something.wait()
            self._writing = True
            self._something.clear()
            messages, self._messages = self._messages, []
            endings, self._endings = self._endings, []
            if endings:
                messages.append(Ended(endings))
            if messages:
                try:
                    self._socket.sendall(encode(messages))
                except OSError:
                    os._exit(ORPHANED)
            with self._flushed:
                self._writing = False
                self._flushed.notify_all()
            time.sleep(_GAP_S)

    def _read(self, receive: Callable[[ToChild], None]) -> None:
        buffer = bytearray()
        while True:
            try:
                chunk = self._socket.recv(_READ_BYTES)
            except OSError:
                chunk = b""
            if not chunk:
                os._exit(ORPHANED)
            buffer += chunk
            for body in cut(buffer):
                for message in decode_to_child(body):
                    receive(message)
