"""HTTP/2 by hand: what no gRPC client would send, or would leave unread."""

import socket
import struct
import threading
from collections import defaultdict
from collections.abc import Iterable
from types import MappingProxyType
from typing import Final, Self

_PREFACE: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_DATA, _HEADERS, _RST, _SETTINGS = 0, 1, 3, 4
_END_STREAM: Final = 1
_END_HEADERS: Final = 4
_INITIAL_WINDOW: Final = 4
_WINDOW: Final = 65535
_WITHIN_S: Final = 30.0
_NAMES: Final = MappingProxyType({_DATA: "data", _HEADERS: "headers", _RST: "reset"})


class RawConnection:
    """A connection; `ended`: the streams that the server has ended; `answers`: each one's frames, in words."""

    def __init__(self, address: str, window: int = _WINDOW) -> None:
        host, port = address.rsplit(":", 1)
        self._socket = socket.create_connection((host, int(port)), timeout=_WITHIN_S)
        self._socket.sendall(_PREFACE + frame(_SETTINGS, 0, 0, struct.pack(">HI", _INITIAL_WINDOW, window)))
        self._next = 1
        self.ended: set[int] = set()
        self.answers: defaultdict[int, list[str]] = defaultdict(list)
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
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
        fields: list[tuple[str | bytes, str | bytes]] = [
            (b":method", b"POST"),
            (b":scheme", b"http"),
            (b":path", path),
            (b":authority", b"x"),
        ]
        fields += [(b"te", b"trailers"), (b"content-type", b"application/grpc")]
        head = b"".join(header(name, value) for name, value in (*fields, *metadata))
        self._socket.sendall(frame(_HEADERS, _END_HEADERS, stream, head))
        if body or ends:
            self._socket.sendall(frame(_DATA, _END_STREAM if ends else 0, stream, body))
        return stream

    def _read(self) -> None:
        with self._socket.makefile("rb") as frames:
            while len(head := frames.read(9)) == 9:
                body = frames.read(int.from_bytes(head[:3], "big"))
                kind, flags, stream = head[3], head[4], int.from_bytes(head[5:], "big")
                if kind in _NAMES:
                    self.answers[stream].append(_told(kind, flags, body))
                if kind == _RST or (kind in (_DATA, _HEADERS) and flags & _END_STREAM):
                    self.ended.add(stream)


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
