"""Puts large payloads into a store (S3, a shared folder) and sends their address. Needs `hyrex[storage]`.

Objects lie in a folder for each day, `PREFIX/2026-11-27/SHA256`. Hyrex deletes none: have a rule of the store
delete those that are older than tasks and results are kept (docs/reference/codecs.md).
"""

import hashlib
import os
import re
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any, Final

from hyrex.arguments.limits import PAYLOAD_LIMIT_BYTES
from hyrex.codec import Codec, PayloadInfo
from hyrex.contrib.needs import needing
from hyrex.errors import PayloadTooLarge, PayloadUnavailable, PayloadUnreadable

with needing("hyrex[storage]"):
    import fsspec
    from fsspec.implementations.local import LocalFileSystem

__all__ = ["Stored"]

INLINE: Final = b"\0"
ELSEWHERE: Final = b"\1"
# Anybody who may submit can write an address: it names an object of ours and nothing else of the store.
ADDRESS: Final = re.compile(rb"(\d{4}-\d{2}-\d{2})/([0-9a-f]{64})", re.ASCII)
DEFAULT_ABOVE_BYTES: Final = 256 * 1024
DEFAULT_LARGEST_BYTES: Final = 64 * 1024 * 1024


class Stored(Codec):
    """Content of more than `above_bytes` goes to `url`, in the form of fsspec (`s3://bucket/prefix`).

    `options` are those of fsspec's filesystem. Content of more than `largest_bytes` is refused.
    """

    name = "stored"
    stage = 3
    blocking = True

    def __init__(
        self,
        url: str,
        *,
        above_bytes: int = DEFAULT_ABOVE_BYTES,
        largest_bytes: int = DEFAULT_LARGEST_BYTES,
        **options: Any,
    ) -> None:
        if not isinstance(url, str) or not url:
            raise ValueError(f"url must name a store, for instance 's3://bucket/payloads', got {url!r}")
        if not isinstance(above_bytes, int) or not 0 <= above_bytes < PAYLOAD_LIMIT_BYTES:
            raise ValueError(f"above_bytes must be 0..{PAYLOAD_LIMIT_BYTES - 1}, got {above_bytes!r}")
        if not isinstance(largest_bytes, int) or largest_bytes < above_bytes:
            raise ValueError(f"largest_bytes must be {above_bytes} or more, got {largest_bytes!r}")
        self._above_bytes = above_bytes
        self.largest_bytes = largest_bytes
        self._store, path = fsspec.core.url_to_fs(url, **options)
        self._path = str(path).rstrip("/")

    def encode(self, content: bytes, about: PayloadInfo) -> bytes:
        """Put it there if it is large. The same content of one day is one object."""
        if len(content) <= self._above_bytes:
            return INLINE + content
        digest = hashlib.sha256(content).hexdigest()
        folder = f"{self._path}/{datetime.now(UTC):%Y-%m-%d}"
        try:
            self._store.makedirs(folder, exist_ok=True)
            self._put(f"{folder}/{digest}", content)
        except Exception as error:
            raise PayloadUnavailable(
                f"{about.kind} of {about.task_name} ({len(content):,} bytes) could not be put into the "
                f"store: {type(error).__name__}"
            ) from error
        return ELSEWHERE + f"{folder.rpartition('/')[2]}/{digest}".encode()

    def encode_lasting(self, content: bytes, about: PayloadInfo) -> bytes:
        """Never elsewhere, where it would be deleted one day."""
        if len(content) >= PAYLOAD_LIMIT_BYTES:
            raise PayloadTooLarge(about.task_name, len(content), PAYLOAD_LIMIT_BYTES - 1)
        return INLINE + content

    def decode(self, content: bytes, about: PayloadInfo, most_bytes: int) -> bytes:
        """Get it, no more than `most_bytes` of it, and compare it with its address."""
        if content[:1] == INLINE:
            return content[1:]
        found = ADDRESS.fullmatch(content[1:])
        what = f"{about.kind} of {about.task_name}"
        if content[:1] != ELSEWHERE or found is None:
            raise PayloadUnreadable(f"{what} are not what {self.name} makes")
        address = content[1:].decode()
        stored = self._get(address, what, most_bytes)
        if len(stored) > most_bytes:
            raise PayloadUnreadable(f"{what} have more than {most_bytes:,} bytes in the store ({address})")
        if hashlib.sha256(stored).hexdigest().encode() != found[2]:
            raise PayloadUnreadable(f"{what} were changed in the store ({address})")
        return stored

    def _put(self, path: str, content: bytes) -> None:
        """Put it there as a whole, since the same content may be there already and be read at this moment.
        Stores of objects do that; in a folder it takes another name first."""
        if not isinstance(self._store, LocalFileSystem):
            self._store.pipe_file(path, content)
            return
        part = f"{path}.{os.urandom(8).hex()}"
        try:
            self._store.pipe_file(part, content)
            os.replace(part, path)
        except BaseException:
            with suppress(OSError):
                os.unlink(part)
            raise

    def _get(self, address: str, what: str, most_bytes: int) -> bytes:
        try:
            found: bytes = self._store.cat_file(f"{self._path}/{address}", start=0, end=most_bytes + 1)
        except FileNotFoundError as error:
            raise PayloadUnreadable(
                f"{what} are no longer in the store ({address}): deleted, or another store"
            ) from error
        except Exception as error:
            raise PayloadUnavailable(
                f"{what} could not be got from the store ({address}): {type(error).__name__}"
            ) from error
        return found
