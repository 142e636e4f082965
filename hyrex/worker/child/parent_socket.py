"""The child's end of the socket: one thread reads; whoever has something to say writes it, whatever is
ready goes together.

An ending that comes alone leaves at once; those that follow within moments leave together. The
end of the socket is the end of the child.
"""

from __future__ import annotations

import os
import socket
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import TypeVar

from hyrex.worker.child.forks import end_if_fork
from hyrex.worker.shared.child_messages import Ended, FromChild, ToChild, cut, decode_to_child, encode
from hyrex.worker.shared.child_options import ORPHANED, SPEECHLESS
from hyrex.worker.shared.description import describe
from hyrex.worker.shared.logs import write_stderr
from hyrex.worker.shared.outcome import Ending

_READ_BYTES = 1 << 18
# Endings leave at once when nothing follows, else in frames this far apart. Without the gap a frame held
# one or two: 86 us of CPU in the child and 70 us in the stream process for a no-op task, 57 and 38 with it.
_GAP_S = 0.002

Item = TypeVar("Item")


class ChildLink:
    """Sends to the stream process from any thread; hands what it says to one receiver."""

    def __init__(self, fd: int) -> None:
        """Take over the inherited socket."""
        self._socket = socket.socket(fileno=fd)
        self._messages: deque[FromChild] = deque()
        self._endings: deque[Ending] = deque()
        self._something = threading.Event()
        self._sending = threading.Lock()
        self._sent_at = 0.0

    def start(self, receive: Callable[[ToChild], None]) -> None:
        """Begin to read and write."""
        threading.Thread(target=self._read, args=(receive,), name="hyrex-read", daemon=True).start()
        threading.Thread(target=self._write, name="hyrex-write", daemon=True).start()

    def disown(self) -> None:
        """Called in a fork of user code: it must not speak over the link of its parent."""
        self._socket.close()
        self._sending = threading.Lock()  # a thread of the parent may have held it

    def send(self, message: FromChild) -> None:
        """Send a message soon, after the endings before it; never blocks."""
        self._messages.append(message)
        self._something.set()

    def end(self, ending: Ending) -> None:
        """Tell of a run that ended, soon; never blocks."""
        self._endings.append(ending)
        if not self._something.is_set():
            self._something.set()

    def end_here(self, ending: Ending, *, more: bool) -> None:
        """Tell of a run that ended: now, unless `more` runs follow it at once.

        Not from a thread that may be interrupted: half a frame would be the end of the child.
        """
        self._endings.append(ending)
        if not more or time.monotonic() - self._sent_at > _GAP_S:
            self.flush()
        elif not self._something.is_set():
            self._something.set()  # what follows may take long

    def flush(self) -> None:
        """Send everything, in this thread."""
        with self._sending:
            endings = _taken(self._endings)
            messages: list[FromChild] = [Ended(endings)] if endings else []
            messages += _taken(self._messages)
            if not messages:
                return
            self._sent_at = time.monotonic()
            try:
                self._socket.sendall(_frame(messages))
            except OSError:
                end_if_fork(None)
                os._exit(ORPHANED)

    def _write(self) -> None:
        while True:
            self._something.wait()
            self._something.clear()
            left_s = self._sent_at + _GAP_S - time.monotonic()
            if left_s > 0:
                time.sleep(left_s)
            self.flush()

    def _read(self, receive: Callable[[ToChild], None]) -> None:
        try:
            self._read_all(receive)
        except BaseException as error:  # user code has read from the socket: nothing more is understood
            write_stderr(f"hyrex child: cannot understand its orders: {describe(error).message}")
            os._exit(SPEECHLESS)

    def _read_all(self, receive: Callable[[ToChild], None]) -> None:
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


def _frame(messages: list[FromChild]) -> bytes:
    """One frame; a child that cannot say how a run ended ends, which says that the run is lost."""
    try:
        return encode(messages)
    except BaseException as error:
        write_stderr(f"hyrex child: what it has to say cannot be encoded: {describe(error).message}")
        os._exit(SPEECHLESS)


def _taken(items: deque[Item]) -> list[Item]:
    """What is there now, taken out; others may add meanwhile."""
    return [items.popleft() for _ in range(len(items))]
