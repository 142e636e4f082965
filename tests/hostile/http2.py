"""HTTP/2 by hand: what no gRPC client would send, or would leave unread."""

import socket
import struct
import threading
from collections import defaultdict
from collections.abc import Iterable
from contextlib import suppress
from types import MappingProxyType
from typing import Final, Self

_PREFACE: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_DATA, _HEADERS, _RST, _SETTINGS, _WINDOW_UPDATE = 0, 1, 3, 4, 8
_ACKNOWLEDGED: Final = 1
_FRAME: Final = 16_384
_END_STREAM: Final = 1
_END_HEADERS: Final = 4
_INITIAL_WINDOW: Final = 4
_WINDOW: Final = 65535
_CANCEL: Final = 8
_WITHIN_S: Final = 30.0
_NAMES: Final = MappingProxyType({_DATA: "data", _HEADERS: "headers", _RST: "reset"})


class RawConnection:
    """A connection; `ended`: streams that the server has ended, `answers`: each one's frames in words."""

    def __init__(self, address: str, window: int = _WINDOW) -> None:
        host, port = address.rsplit(":", 1)
        self._socket = socket.create_connection((host, int(port)), timeout=_WITHIN_S)
        self._socket.sendall(_PREFACE + frame(_SETTINGS, 0, 0, struct.pack(">HI", _INITIAL_WINDOW, window)))
        self._next = 1
        self._windows = Windows()
        self.ended: set[int] = set()
        self.answers: defaultdict[int, list[str]] = defaultdict(list)
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        with suppress(OSError):  # the server may have ended it
            self._socket.shutdown(socket.SHUT_RDWR)
        self._reader.join()
        self._socket.close()

    def call(
        self, path: str, message: bytes, metadata: Iterable[tuple[str | bytes, str | bytes]] = ()
    ) -> int:
        """A call of one message; its stream."""
        body = b"\0" + struct.pack(">I", len(message)) + message
        return self.begin(path, metadata, body, ends=True)

    def begin(
        self,
        path: str,
        metadata: Iterable[tuple[str | bytes, str | bytes]] = (),
        body: bytes = b"",
        *,
        ends: bool = False,
    ) -> int:
        """A call, and the first bytes of what it sends; its stream."""
        stream, self._next = self._next, self._next + 2
        head = _head(path, metadata)
        self._socket.sendall(frame(_HEADERS, _END_HEADERS, stream, head))
        if body or ends:
            self._socket.sendall(frame(_DATA, _END_STREAM if ends else 0, stream, body))
        return stream

    def open_and_reset(
        self, path: str, metadata: Iterable[tuple[str | bytes, str | bytes]], count: int
    ) -> None:
        """Calls that are taken back at once. Raises OSError where the server ends the connection."""
        calls: list[bytes] = []
        for _ in range(count):
            stream, self._next = self._next, self._next + 2
            calls.append(frame(_HEADERS, _END_HEADERS, stream, _head(path, metadata)))
            calls.append(frame(_RST, 0, stream, struct.pack(">I", _CANCEL)))
        self._socket.sendall(b"".join(calls))

    def send_all_but_the_end(self, streams: Iterable[int], size: int, quiet_s: float) -> int:
        """A message of this size on each of these, but for its last byte, as far as the server lets us: until
        it has made no room for so long. The bytes sent."""
        left = dict.fromkeys(streams, size + 5 - 1)
        head = b"\0" + struct.pack(">I", size)
        sent = 0
        while any(left.values()) and (taken := self._windows.wait(left, quiet_s)):
            for stream, room in taken.items():
                first = left[stream] == size + 5 - 1
                body = (head if first else b"") + bytes(room - (5 if first else 0))
                self._socket.sendall(frame(_DATA, 0, stream, body))
                left[stream] -= room
                sent += room
        return sent

    def _read(self) -> None:
        with suppress(OSError), self._socket.makefile("rb") as frames:
            while len(head := frames.read(9)) == 9:
                body = frames.read(int.from_bytes(head[:3], "big"))
                kind, flags, stream = head[3], head[4], int.from_bytes(head[5:], "big")
                self._windows.take(kind, flags, stream, body)
                if kind in _NAMES:
                    self.answers[stream].append(_told(kind, flags, body))
                if kind == _RST or (kind in (_DATA, _HEADERS) and flags & _END_STREAM):
                    self.ended.add(stream)


class Windows:
    """How much the server will take, of the connection and of each stream."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._initial = self._connection = _WINDOW
        self._more: defaultdict[int, int] = defaultdict(int)
        self._ended: set[int] = set()

    def take(self, kind: int, flags: int, stream: int, body: bytes) -> None:
        """A frame came."""
        with self._changed:
            if kind == _SETTINGS and not flags & _ACKNOWLEDGED:
                for at in range(0, len(body), 6):
                    key, value = struct.unpack_from(">HI", body, at)
                    if key == _INITIAL_WINDOW:
                        self._initial = value
            elif kind == _WINDOW_UPDATE and stream:
                self._more[stream] += int.from_bytes(body, "big")
            elif kind == _WINDOW_UPDATE:
                self._connection += int.from_bytes(body, "big")
            elif kind == _RST:
                self._ended.add(stream)
            self._changed.notify()

    def wait(self, left: dict[int, int], quiet_s: float) -> dict[int, int]:
        """What may be sent now on these streams, taken; empty where there is no room for so long."""
        taken: dict[int, int] = {}
        with self._changed:
            self._changed.wait_for(lambda: any(self._room(stream, left[stream]) for stream in left), quiet_s)
            for stream in left:
                if room := self._room(stream, left[stream]):
                    taken[stream] = room
                    self._connection -= room
                    self._more[stream] -= room
        return taken

    def _room(self, stream: int, left: int) -> int:
        if stream in self._ended:
            return 0
        room = min(self._connection, self._initial + self._more[stream], left, _FRAME)
        return room if room > 5 else 0


def _head(path: str, metadata: Iterable[tuple[str | bytes, str | bytes]]) -> bytes:
    """The headers of a call."""
    fields: list[tuple[str | bytes, str | bytes]] = [
        (b":method", b"POST"),
        (b":scheme", b"http"),
        (b":path", path),
        (b":authority", b"x"),
        (b"te", b"trailers"),
        (b"content-type", b"application/grpc"),
    ]
    return b"".join(header(name, value) for name, value in (*fields, *metadata))


def _told(kind: int, flags: int, body: bytes) -> str:
    """A frame in words: "headers", "headers, the last", "reset 0"."""
    if kind == _RST:
        return f"reset {int.from_bytes(body, 'big')}"
    return _NAMES[kind] + (", the last" if flags & _END_STREAM else "")


def frame(kind: int, flags: int, stream: int, body: bytes = b"") -> bytes:
    """A frame of HTTP/2."""
    return struct.pack(">I", len(body))[1:] + bytes([kind, flags]) + struct.pack(">I", stream) + body


def header(name: str | bytes, value: str | bytes) -> bytes:
    """A field of HPACK, neither indexed nor compressed; both of less than 127 bytes."""
    texts = [text if isinstance(text, bytes) else text.encode() for text in (name, value)]
    return b"\0" + b"".join(bytes([len(text)]) + text for text in texts)
