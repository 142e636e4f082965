"""Who is let in: a session from the cookie, or at once where the brokers want no token."""

import asyncio
import time
from typing import Final

import grpc
from starlette.requests import Request
from starlette.responses import Response

from hyrex.dashboard.access.attempts import Attempts
from hyrex.dashboard.access.session import FLASH_S, SESSION_S, BrowserSession, Cookies
from hyrex.dashboard.brokers import Brokers
from hyrex.dashboard.options import DashboardOptions
from hyrex.transport.errors import CallFailed
from hyrex.v1 import admin_service_pb2 as admin

ASKED_AGAIN_S: Final = 5.0
LONGEST_ADDRESS: Final = 64


class Entry:
    """The cookie of a browser, and the question to the broker whether a token is one."""

    def __init__(self, options: DashboardOptions, brokers: Brokers) -> None:
        self._options = options
        self._brokers = brokers
        self.sessions = Cookies(options.key)
        # Cookies do not tell ports apart: two dashboards of one machine would overwrite each other's.
        self._name = f"hyrex-{options.port}"
        self._path = f"{options.prefix}/"
        self._open: bool | None = None
        self._asked = float("-inf")
        self._asking = asyncio.Lock()
        self._attempts = Attempts()

    def session(self, request: Request) -> BrowserSession | None:
        """The session of the request's cookie."""
        return self.sessions.open(request.cookies.get(self._name))

    async def at_once(self) -> BrowserSession | None:
        """A session without a token, where the brokers want none and the dashboard is on loopback.
        Raises: CallFailed where no broker answers."""
        if not (self._options.on_loopback or self._options.insecure):
            return None
        async with self._asking:
            if time.monotonic() - self._asked > ASKED_AGAIN_S:
                self._open = await self.knows(None)
                self._asked = time.monotonic()
        return BrowserSession.begin(None) if self._open else None

    async def knows(self, token: str | None) -> bool:
        """True if the brokers take this token, whatever it may see. Raises: CallFailed."""
        try:
            await self._brokers.as_seen_by(token).read("admin", "ListBrokers", admin.ListBrokersRequest())
        except CallFailed as error:
            if error.failure.code is grpc.StatusCode.PERMISSION_DENIED:
                return True
            if error.failure.code is grpc.StatusCode.UNAUTHENTICATED:
                return False
            raise
        return True

    def browser_of(self, request: Request) -> str:
        """The address that wrong tokens are counted for. Behind a proxy it is what that has written last:
        by the proxy's own, anybody would keep everybody out."""
        peer = request.client.host if request.client else ""
        given = request.headers.getlist("x-forwarded-for") if self._options.behind_https else []
        seen = given[-1].rpartition(",")[2].strip() if given else ""
        return (seen or peer)[:LONGEST_ADDRESS]

    def may_try(self, client: str) -> bool:
        """True if not too many wrong tokens came from this address of late."""
        return self._attempts.may_try(client)

    def note_failure(self, client: str) -> None:
        """Count a wrong token from this address."""
        self._attempts.note_failure(client)

    def give(self, response: Response, session: BrowserSession) -> None:
        """Set the cookie of a session."""
        self._set(response, self._name, self.sessions.encrypt(session), SESSION_S)

    def take(self, response: Response) -> None:
        """Remove the cookie of a session."""
        self._set(response, self._name, "", 0)

    def say(self, response: Response, words: str, *, bad: bool = False) -> None:
        """Have the next page say what was done."""
        self._set(response, f"{self._name}-said", self.sessions.encrypt_words(words, bad=bad), FLASH_S)

    def said(self, request: Request) -> tuple[str, bool] | None:
        """What the page before has done."""
        return self.sessions.open_words(request.cookies.get(f"{self._name}-said"))

    def forget_said(self, response: Response) -> None:
        """Remove the cookie of what was said."""
        self._set(response, f"{self._name}-said", "", 0)

    def _set(self, response: Response, name: str, value: str, seconds: int) -> None:
        response.set_cookie(
            name,
            value,
            max_age=seconds,
            path=self._path,
            secure=self._options.https,
            httponly=True,
            samesite="strict",
        )
