"""The session of one browser, kept in an encrypted cookie: the server stores nothing.

The cookie holds the token, so it is HttpOnly (no script reads it), SameSite=Strict (no other site has it
sent) and encrypted with the dashboard's key. It ends after twelve hours.
"""

import base64
import hashlib
import hmac
import json
import secrets
import time
from dataclasses import dataclass
from typing import Final

from cryptography.fernet import Fernet, InvalidToken

SESSION_S: Final = 12 * 3600
FLASH_S: Final = 60
LONGEST_COOKIE: Final = 8192


@dataclass(frozen=True, slots=True)
class BrowserSession:
    """One sign-in. `token` is None where the brokers want none."""

    token: str | None
    number: str
    ends_at: float
    """In seconds since 1970."""

    @classmethod
    def begin(cls, token: str | None) -> "BrowserSession":
        """A new session."""
        return cls(token, secrets.token_hex(16), time.time() + SESSION_S)


class Cookies:
    """Makes and reads cookies; those of another key, changed or too old are as good as none."""

    def __init__(self, key: str | None) -> None:
        """`key`: a secret text that dashboards share if they share their sessions; None makes one."""
        material = key.encode() if key else secrets.token_bytes(32)
        self._secret = hashlib.sha256(b"hyrex dashboard csrf\0" + material).digest()
        box = hashlib.sha256(b"hyrex dashboard cookie\0" + material).digest()
        self._box = Fernet(base64.urlsafe_b64encode(box))

    def encrypt(self, session: BrowserSession) -> str:
        """The cookie's value."""
        return self._box.encrypt(json.dumps(["session", session.token, session.number]).encode()).decode()

    def open(self, cookie: str | None) -> BrowserSession | None:
        """The session of a cookie."""
        match self._opened(cookie, SESSION_S):
            case ["session", str() | None as token, str() as number]:
                return BrowserSession(token, number, self._made_at(cookie) + SESSION_S)
            case _:
                return None

    def encrypt_words(self, words: str, *, bad: bool = False) -> str:
        """A cookie that says once what an action has done."""
        return self._box.encrypt(json.dumps(["words", words[:1000], bad]).encode()).decode()

    def open_words(self, cookie: str | None) -> tuple[str, bool] | None:
        """What an action has done, and True where that is bad news."""
        match self._opened(cookie, FLASH_S):
            case ["words", str() as words, bool() as bad]:
                return words, bad
            case _:
                return None

    def csrf(self, session: BrowserSession) -> str:
        """What forms of this session carry."""
        return hmac.new(self._secret, session.number.encode(), "sha256").hexdigest()

    def csrf_matches(self, session: BrowserSession, given: str) -> bool:
        """True if a form of this session carried it."""
        return hmac.compare_digest(self.csrf(session).encode(), given.encode())

    def _made_at(self, cookie: str | None) -> int:
        return self._box.extract_timestamp(cookie or "")

    def _opened(self, cookie: str | None, within_s: int) -> object:
        if not cookie or len(cookie) > LONGEST_COOKIE:
            return None
        try:
            found: object = json.loads(self._box.decrypt(cookie, ttl=within_s))
        except (InvalidToken, ValueError):
            return None
        return found
