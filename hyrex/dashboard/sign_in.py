"""Sign-in: a token for a cookie; and sign-out. The token is in no address and in no log."""

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from hyrex.config import usable_token
from hyrex.dashboard.access.session import BrowserSession
from hyrex.dashboard.answers import Answers, trouble_of
from hyrex.dashboard.forms import FORGED, form_of
from hyrex.dashboard.pages.screens import is_local
from hyrex.dashboard.shared import Shared
from hyrex.transport.errors import CallFailed


class SignIn:
    """The page, and what its form does."""

    def __init__(self, shared: Shared, answers: Answers) -> None:
        self._shared = shared
        self._answers = answers

    async def page(self, request: Request) -> Response:
        """The form. Who needs none goes on at once."""
        try:
            session, _ = await self._answers.enter(request)
        except CallFailed as error:
            return self._answers.say(request, trouble_of(error, self._shared.brokers.url))
        if session is not None:
            return RedirectResponse(self._answers.url(_next(request)), 303)
        over = "The session has ended." if request.query_params.get("over") else ""
        return self._form(request, over)

    async def enter(self, request: Request) -> Response:
        """Exchange a token for a cookie."""
        form = await form_of(request)
        client = self._shared.entry.browser_of(request)
        if not self._shared.entry.may_try(client):
            return self._form(request, "Too many wrong tokens. Wait a minute.", 429)
        try:
            token = usable_token("the token", form.get("token", ""))
            known = await self._shared.entry.knows(token)
        except ValueError:
            known = False
        except CallFailed as error:
            return self._answers.say(request, trouble_of(error, self._shared.brokers.url))
        if not known:
            self._shared.entry.note_failure(client)
            return self._form(request, "The broker does not know this token.", 403)
        response = RedirectResponse(self._answers.url(_next(request)), 303)
        self._shared.entry.give(response, BrowserSession.begin(token))
        return response

    async def leave(self, request: Request) -> Response:
        """End the session of this browser."""
        form = await form_of(request)
        session = self._shared.entry.session(request)
        if session is None or not self._shared.entry.sessions.csrf_matches(session, form.get("csrf", "")):
            return self._answers.say(request, FORGED)
        response = RedirectResponse(self._answers.url("/sign-in"), 303)
        self._shared.entry.take(response)
        return response

    def _form(self, request: Request, words: str, status: int = 200) -> Response:
        values = {"words": words, "next": _next(request)}
        return self._answers.bare(request, "sign_in.html", values, status)


def _next(request: Request) -> str:
    wanted = request.query_params.get("next", "/")
    return wanted if is_local(wanted) else "/"
