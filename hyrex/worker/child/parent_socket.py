"""The child's end of its socket to the stream process: a thread reads, a thread writes.

Messages that are ready together go into one frame. An ending is sent at once if none was sent just before;
those that follow within 2 ms are sent together. When the socket ends, the child ends.
"""

import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from typing import Final, TypeVar

from hyrex.worker.child.forks import end_if_fork
from hyrex.worker.shared.child_messages import (
    Ended,
    Finished,
    FromChild,
    ToChild,
    cut,
    decode_to_child,
    encode,
)
from hyrex.worker.shared.child_options import ORPHANED, SOCKET_UNUSABLE
from hyrex.worker.shared.description import describe
from hyrex.worker.shared.logs import write_stderr
from hyrex.worker.shared.outcome import Completed, Ending

_READ_BYTES: Final = 1 << 18
# The shortest time between two frames of endings. Without it a frame held one or two endings, and a no-op
# task took 86 us of CPU in the child and 70 us in the stream process; with it, 57 us and 38 us.
_GAP_S: Final = 0.002

Item = TypeVar("Item")


class ParentSocket:
    """Sends messages to the stream process from any thread, and passes its messages to one receiver."""

    def __init__(self, fd: int) -> None:
        """Take over the inherited socket."""
        self._socket = socket.socket(fileno=fd)
        self._messages: list[FromChild] = []
        self._endings: list[Ending] = []
        self._something = threading.Event()
        self._sending = threading.Lock()
        self._sent_at = 0.0

    def start(self, receive: Callable[[ToChild], None]) -> None:
        """Start the threads that read and write. `receive` is called by the one that reads."""
        threading.Thread(target=self._read, args=(receive,), name="hyrex-read", daemon=True).start()
        threading.Thread(target=self._write, name="hyrex-write", daemon=True).start()

    def disown(self) -> None:
        """Called in a fork of user code, which must not use the socket of its parent."""
        self._socket.close()
        self._sending = threading.Lock()  # a thread of the parent may have held it

    def send(self, message: FromChild) -> None:
        """Send a message soon, after the endings before it; never blocks."""
        self._messages.append(message)
        self._something.set()

    def end(self, ending: Ending) -> None:
        """Send the end of a run soon; never blocks."""
        self._endings.append(ending)
        if not self._something.is_set():
            self._something.set()

    def end_here(self, ending: Ending, *, more: bool) -> None:
        """Send the end of a run: now, unless `more` runs follow it at once.

        Not for a thread that may be interrupted while it sends: after half a frame the child must end.
        """
        self._endings.append(ending)
        if not more or time.monotonic() - self._sent_at > _GAP_S:
            self.flush()
        elif not self._something.is_set():
            self._something.set()  # the next run may take long, so the writing thread sends this soon

    def flush(self) -> None:
        """Send everything that is queued, in this thread."""
        with self._sending:
            later = _taken(self._messages)  # first: what ends before a message is sent then goes before it
            messages = [*_told(_taken(self._endings)), *later]
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
        except BaseException as error:  # user code has read from the socket: the rest cannot be decoded
            write_stderr(f"hyrex child: cannot decode what its worker sends: {describe(error).message}")
            os._exit(SOCKET_UNUSABLE)

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


def _told(endings: list[Ending]) -> Iterator[FromChild]:
    """Messages that tell how runs ended: those that returned as columns."""
    finished = [ending for ending in endings if type(ending.outcome) is Completed]
    if finished:
        yield Finished(
            [ending.token for ending in finished],
            [(ending.elapsed_ns or 0) // 1000 for ending in finished],
            [ending.outcome.result for ending in finished],  # type: ignore[union-attr]
        )
    if len(finished) < len(endings):
        yield Ended([ending for ending in endings if type(ending.outcome) is not Completed])


def _frame(messages: list[FromChild]) -> bytes:
    """Encode one frame. If that fails, the child ends: the stream process then reports its runs as lost."""
    try:
        return encode(messages)
    except BaseException as error:
        write_stderr(f"hyrex child: cannot encode what it has to report: {describe(error).message}")
        os._exit(SOCKET_UNUSABLE)


def _taken(items: list[Item]) -> list[Item]:
    """Remove and return the items that are there now; other threads may add more meanwhile, at the end."""
    count = len(items)
    taken = items[:count]
    del items[:count]
    return taken
