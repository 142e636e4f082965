"""The form of tokens: `hyrex_`, 43 letters and digits with 256 random bits, and 6 with their CRC-32.

Secret scanners find them by the prefix, and tell them from chance by the checksum, without asking anybody. So
does a broker: what is no token costs it no look into the database.
"""

import hashlib
import re
import secrets
import zlib
from typing import Final

PREFIX: Final = "hyrex_"
PATTERN: Final = re.compile(r"hyrex_([0-9A-Za-z]{43})([0-9A-Za-z]{6})")
_DIGITS: Final = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_RANDOM_BYTES: Final = 32
_RANDOM_DIGITS: Final = 43
_CHECK_DIGITS: Final = 6
_ENDING: Final = 4


def make_token() -> str:
    """A new token."""
    text = _base62(int.from_bytes(secrets.token_bytes(_RANDOM_BYTES)), _RANDOM_DIGITS)
    return PREFIX + text + _checksum(text)


def is_whole(token: str) -> bool:
    """Return True if it has the form of a token, and its checksum."""
    match = PATTERN.fullmatch(token)
    return match is not None and _checksum(match[1]) == match[2]


def digest(token: bytes) -> bytes:
    """What is kept of a token. 256 random bits cannot be found by trying, so no slow hash is needed."""
    return hashlib.sha256(token).digest()


def ending(token: str) -> str:
    """The end of a token, by which people tell which one they have: digits of the checksum, so it tells
    little of the rest."""
    return token[-_ENDING:]


def _checksum(text: str) -> str:
    return _base62(zlib.crc32(text.encode()), _CHECK_DIGITS)


def _base62(number: int, length: int) -> str:
    digits = []
    for _ in range(length):
        number, digit = divmod(number, len(_DIGITS))
        digits.append(_DIGITS[digit])
    return "".join(reversed(digits))
