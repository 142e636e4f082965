"""Encrypts payloads with AES-GCM. Needs `hyrex[encryption]`.

Each payload says by which key it was encrypted, so keys can be rotated: first give the new key to all
processes behind the old one, then put it first, then drop the old one when no task of it is kept any more.
"""

import os
from collections.abc import Mapping
from typing import Final

from hyrex.codec import Codec, PayloadInfo
from hyrex.contrib.needs import needing
from hyrex.errors import PayloadUnavailable, PayloadUnreadable

with needing("hyrex[encryption]"):
    from cryptography.exceptions import InvalidTag
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

__all__ = ["Encrypted"]

VERSION: Final = b"\1"
NONCE_BYTES: Final = 12
KEY_BYTES: Final = (16, 24, 32)
KEY_NAME_BYTES: Final = 64


class Encrypted(Codec):
    """AES-GCM with keys of 16, 24 or 32 bytes by name; the first one encrypts, all decrypt.

    What is encrypted for one task's arguments cannot be used as another's, nor as a result.
    """

    name = "aes-gcm"
    stage = 2
    repeatable = False

    def __init__(self, keys: Mapping[str, bytes]) -> None:
        if not isinstance(keys, Mapping) or not keys:
            raise TypeError("keys must be a mapping of names to keys, with at least one")
        for name, key in keys.items():
            if not isinstance(name, str) or not 1 <= len(name.encode()) <= KEY_NAME_BYTES:
                raise ValueError(f"the name of a key must have 1..{KEY_NAME_BYTES} bytes, got {name!r}")
            if not isinstance(key, bytes) or len(key) not in KEY_BYTES:
                raise ValueError(f"the key {name!r} must be bytes of length 16, 24 or 32")
        self._keys = {name: AESGCM(key) for name, key in keys.items()}
        self._current = next(iter(self._keys))

    def encode(self, content: bytes, about: PayloadInfo) -> bytes:
        """Encrypt it with the first key."""
        name, nonce = self._current.encode(), os.urandom(NONCE_BYTES)
        head = VERSION + bytes([len(name)]) + name
        return head + nonce + self._keys[self._current].encrypt(nonce, content, head + _bound(about))

    def decode(self, content: bytes, about: PayloadInfo, most_bytes: int) -> bytes:
        """Decrypt it with the key that it names."""
        what = f"{about.kind} of {about.task_name}"
        length = content[1] if len(content) > 1 and content[:1] == VERSION else 0
        head, rest = content[: 2 + length], content[2 + length :]
        if not length or len(rest) < NONCE_BYTES:
            raise PayloadUnreadable(f"{what} are not what {self.name} makes")
        name = head[2:].decode("utf-8", "backslashreplace")
        if name not in self._keys:
            raise PayloadUnavailable(
                f"{what} are encrypted with the key {name!r}, and this process has {', '.join(self._keys)}"
            )
        try:
            return self._keys[name].decrypt(rest[:NONCE_BYTES], rest[NONCE_BYTES:], head + _bound(about))
        except InvalidTag:
            raise PayloadUnreadable(
                f"{what} do not decrypt with the key {name!r}: changed, of another task, or of another key "
                "of that name"
            ) from None


def _bound(about: PayloadInfo) -> bytes:
    return f"\0{about.kind}\0{about.task_name}".encode()
