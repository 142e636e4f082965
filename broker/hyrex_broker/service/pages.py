"""Page tokens: where a list goes on, encrypted, so that nobody reads it or makes one up.

A list is searched beyond what its caller may see, so its cursor may name what is another's. The brokers of a
database share the key, and each goes on with a list that another one has begun. The form is SIV (RFC 5297),
with HMAC-SHA256 in place of AES: the key stream is made of the content's tag, so equal cursors have equal
tokens, and nothing is to be counted or drawn.
"""

import base64
import hashlib
import hmac
import json
from collections.abc import Iterable
from typing import Final, Protocol

from hyrex_broker.domain.errors import PageTokenInvalid

_DIGEST_BYTES: Final = 8
_TAG_BYTES: Final = 16
_LONGEST_TOKEN: Final = 1024


class Secrets(Protocol):
    """Reads the secret of page tokens."""

    async def of_pages(self) -> bytes:
        """Raises StorageUnavailable."""
        ...


class PageTokens:
    """Makes page tokens, and reads those of every broker of the database. Raises StorageUnavailable."""

    def __init__(self, secrets: Secrets) -> None:
        self._secrets = secrets
        self._cipher: _Cipher | None = None

    async def token(self, cursor: str | None, filters: Iterable[object]) -> str:
        """A token that continues after the cursor, valid for these filters only; "" on the last page."""
        if cursor is None:
            return ""
        cipher = await self._known_cipher()
        return base64.urlsafe_b64encode(cipher.encrypted(_digest(filters) + cursor.encode())).decode()

    async def cursor(self, token: str, filters: Iterable[object]) -> str | None:
        """The cursor of a token; None without a token. Raises PageTokenInvalid."""
        if not token:
            return None
        found = (await self._known_cipher()).decrypted(_bytes_of(token))
        if found is None:
            raise not_ours()
        if found[:_DIGEST_BYTES] != _digest(filters):
            raise PageTokenInvalid("page_token belongs to a list with other filters; begin again without it")
        return found[_DIGEST_BYTES:].decode()

    async def _known_cipher(self) -> "_Cipher":
        if self._cipher is None:
            self._cipher = _Cipher(await self._secrets.of_pages())
        return self._cipher


class _Cipher:
    """Encrypts and authenticates bytes with one secret."""

    def __init__(self, secret: bytes) -> None:
        self._of_tags = hmac.digest(secret, b"tag", "sha256")
        self._of_streams = hmac.digest(secret, b"stream", "sha256")

    def encrypted(self, content: bytes) -> bytes:
        """The tag, then the content hidden by its key stream."""
        tag = self._tag(content)
        return tag + self._hidden(tag, content)

    def decrypted(self, sent: bytes) -> bytes | None:
        """The content; None where it was not encrypted with this secret."""
        tag = sent[:_TAG_BYTES]
        content = self._hidden(tag, sent[_TAG_BYTES:])
        return content if hmac.compare_digest(tag, self._tag(content)) else None

    def _tag(self, content: bytes) -> bytes:
        return hmac.digest(self._of_tags, content, "sha256")[:_TAG_BYTES]

    def _hidden(self, tag: bytes, content: bytes) -> bytes:
        stream = hashlib.shake_256(self._of_streams + tag).digest(len(content))
        return bytes(one ^ other for one, other in zip(content, stream, strict=True))


def not_ours(field: str = "page_token") -> PageTokenInvalid:
    """The refusal of a token that no broker of this database has made."""
    return PageTokenInvalid(f"{field} was not made by a broker; begin again without it")


def _bytes_of(token: str) -> bytes:
    if len(token) > _LONGEST_TOKEN:
        raise not_ours()
    try:
        return base64.b64decode(token.encode(), altchars=b"-_", validate=True)
    except ValueError:
        raise not_ours() from None


def _digest(filters: Iterable[object]) -> bytes:
    text = json.dumps([repr(value) for value in filters])
    return hashlib.blake2b(text.encode(), digest_size=_DIGEST_BYTES).digest()
