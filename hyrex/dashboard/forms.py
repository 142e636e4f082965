"""Actions: GET asks, POST does. A POST needs a session, its form's token, and a dashboard that may write."""

from typing import Final
from urllib.parse import parse_qsl

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from hyrex.dashboard.access.session import BrowserSession
from hyrex.dashboard.answers import Answers, Trouble
from hyrex.dashboard.pages.page import FormRefused, Missing, Page
from hyrex.dashboard.pages.screens import ACTIONS
from hyrex.dashboard.shared import Shared
from hyrex.transport.errors import CallFailed

MOST_FIELDS: Final = 50
READ_ONLY: Final = Trouble(403, "This dashboard is read-only", "It was started with --read-only.")
FORGED: Final = Trouble(403, "The form is too old", "Its session has ended. Reload the page, and try again.")


class Forms:
    """The two halves of every action."""

    def __init__(self, shared: Shared, answers: Answers) -> None:
        self._shared = shared
        self._answers = answers

    async def ask(self, request: Request) -> Response:
        """The question of an action."""
        if self._shared.options.read_only:
            return self._answers.say(request, READ_ONLY)
        path = self._answers.path(request)
        try:
            session, fresh = await self._answers.enter(request)
            if session is None:
                return self._answers.to_sign_in(request)
            visit = self._shared.visit(session.token, request.query_params)
            question = await ACTIONS[path].ask(visit)
        except (CallFailed, Missing, FormRefused) as error:
            return self._answers.trouble(request, error)
        action = f"{path}?{request.url.query}"
        page = Page("question.html", question.title, "", {"question": question, "action": action})
        response = self._answers.shown(request, session, page)
        if fresh:
            self._shared.entry.give(response, session)
        return response

    async def do(self, request: Request) -> Response:
        """Do it, then lead to the page that shows what has become of it."""
        form = await form_of(request)
        session = self._shared.entry.session(request)
        refused = self.refusal(session, form)
        if session is None or refused is not None:
            return self._answers.say(request, refused or FORGED)
        action = ACTIONS[self._answers.path(request)]
        try:
            done = await action.do(self._shared.visit(session.token, request.query_params), form)
        except (CallFailed, Missing, FormRefused) as error:
            return self._answers.trouble(request, error)
        response = RedirectResponse(self._answers.url(done.back), 303)
        self._shared.entry.say(response, done.words, bad=done.bad)
        return response

    def refusal(self, session: BrowserSession | None, form: dict[str, str]) -> Trouble | None:
        """Why a form is not obeyed."""
        if self._shared.options.read_only:
            return READ_ONLY
        if session is None or not self._shared.entry.sessions.csrf_matches(session, form.get("csrf", "")):
            return FORGED
        return None


async def form_of(request: Request) -> dict[str, str]:
    """The fields of a form; nothing where the body is no form."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/x-www-form-urlencoded":
        return {}
    try:
        pairs = parse_qsl(
            (await request.body()).decode("ascii"),
            keep_blank_values=True,
            max_num_fields=MOST_FIELDS,
            errors="strict",
        )
    except ValueError:
        return {}
    return dict(pairs)
