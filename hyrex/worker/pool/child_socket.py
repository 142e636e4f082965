"""The stream process's end of a child's socket, driven by the event loop.

Messages sent within one iteration of the loop go into one frame. Never blocks: what the child does not read
yet waits in a buffer, whose size is bounded by the announced capacity.
"""

import asyncio
import socket
from collections.abc import Callable
from typing import Final

import msgspec

from hyrex.worker.shared.child_messages import FromChild, ToChild, cut, decode_from_child, encode

_READ_BYTES: Final = 1 << 18


class ChildSocket:
    """Sends messages to one child and receives its messages."""

    def __init__(
        self,
        sock: socket.socket,
        receive: Callable[[FromChild], None],
        on_garbage: Callable[[Exception], None],
    ) -> None:
        """Begin to read. `receive` is called with each message of the child, `on_garbage` with the error when
        bytes cannot be decoded; nothing is read after that."""
        sock.setblocking(False)
        self._socket = sock
        self._receive = receive
        self._on_garbage = on_garbage
        self._loop = asyncio.get_running_loop()
        self._incoming = bytearray()
        self._outgoing = bytearray()
        self._messages: list[ToChild] = []
        self._writing = False
        self._closed = False
        self._is_garbled = False
        self._loop.add_reader(sock, self._readable)

    def send(self, message: ToChild) -> None:
        """Send in one frame with all that is sent in this iteration of the loop."""
        if self._closed:
            return
        if not self._messages:
            self._loop.call_soon(self._flush)
        self._messages.append(message)

    def read_rest(self) -> None:
        """Receive what a dead child had sent before."""
        while not self._closed and self._readable():
            pass

    def close(self) -> None:
        """Close the socket; nothing is received any more."""
        if self._closed:
            return
        self._closed = True
        self._loop.remove_reader(self._socket)
        if self._writing:
            self._loop.remove_writer(self._socket)
        self._socket.close()

    def _flush(self) -> None:
        if self._closed:
            return
        messages, self._messages = self._messages, []
        self._outgoing += encode(messages)
        if not self._writing:
            self._writable()

    def _writable(self) -> None:
        try:
            sent = self._socket.send(self._outgoing)
        except (BlockingIOError, InterruptedError):
            sent = 0
        except OSError:  # the child is gone, which `ChildProcess` notices by itself
            sent = len(self._outgoing)
        del self._outgoing[:sent]
        if bool(self._outgoing) == self._writing:
            return
        self._writing = bool(self._outgoing)
        if self._writing:
            self._loop.add_writer(self._socket, self._writable)
        else:
            self._loop.remove_writer(self._socket)

    def _readable(self) -> bool:
        """Receive what is there. Return True if there may be more."""
        if self._is_garbled:
            return False
        try:
            chunk = self._socket.recv(_READ_BYTES)
        except (BlockingIOError, InterruptedError):
            return False
        except OSError:
            chunk = b""
        if not chunk:
            self._loop.remove_reader(self._socket)
            return False
        self._incoming += chunk
        for body in cut(self._incoming):
            try:
                messages = decode_from_child(body)
            except (msgspec.DecodeError, ValueError) as error:
                self._stop_reading(error)
                return False
            for message in messages:
                self._receive(message)
        return True

    def _stop_reading(self, error: Exception) -> None:
        """User code has written into the socket: nothing that follows can be decoded."""
        self._is_garbled = True
        self._loop.remove_reader(self._socket)
        self._on_garbage(error)
