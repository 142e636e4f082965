"""Answers with pages: a screen, and what is said where one cannot be shown."""

import logging
import secrets
from dataclasses import dataclass
from typing import Any, Final

import grpc
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response

from hyrex.dashboard.access.session import BrowserSession
from hyrex.dashboard.brokers import is_away
from hyrex.dashboard.pages.page import FormRefused, Missing, Page
from hyrex.dashboard.pages.screens import SCREENS, is_local
from hyrex.dashboard.render.values import query
from hyrex.dashboard.shared import Shared
from hyrex.filterline import TASK_ID
from hyrex.transport.errors import CallFailed, CallFailure
from hyrex.v1 import admin_service_pb2 as admin

log = logging.getLogger("hyrex.dashboard")
THEMES: Final = ("light", "dark")


@dataclass(frozen=True, slots=True)
class Trouble:
    """Why a page cannot be shown: its status, a heading, and a sentence."""

    status: int
    heading: str
    sentence: str


class Answers:
    """Makes responses."""

    def __init__(self, shared: Shared) -> None:
        self._shared = shared

    async def screen(self, request: Request) -> Response:
        """A page of SCREENS."""
        try:
            session, fresh = await self.enter(request)
            if session is None:
                return self.to_sign_in(request)
            if (jump := _jump(request)) is not None:
                return RedirectResponse(self.url(jump), 303)
            view = SCREENS[self.path(request)]
            page = await view(self._shared.visit(session.token, request.query_params))
            caller = await self._shared.cluster.caller(session.token)
        except (CallFailed, Missing, FormRefused) as error:
            return self.trouble(request, error)
        response = self.shown(request, session, page, caller)
        if fresh:
            self._shared.entry.give(response, session)
        return response

    async def enter(self, request: Request) -> tuple[BrowserSession | None, bool]:
        """The session of the request, and True where it has only now begun. Raises: CallFailed."""
        known = self._shared.entry.session(request)
        if known is not None:
            return known, False
        return await self._shared.entry.at_once(), True

    def path(self, request: Request) -> str:
        """The address below the prefix."""
        return request.url.path.removeprefix(self._shared.options.prefix) or "/"

    def shown(
        self,
        request: Request,
        session: BrowserSession,
        page: Page,
        caller: admin.GetCallerResponse | None = None,
        status: int = 200,
    ) -> HTMLResponse:
        """A page with its frame. `caller`: who looks, where that is known."""
        said = self._shared.entry.said(request)
        frame = self._frame(request, session) | {"page": page, "said": said, "caller": caller}
        html = self._shared.templates.page(page.template, {**frame, **page.values})
        response = HTMLResponse(html, status)
        if said is not None:
            self._shared.entry.forget_said(response)
        return response

    def bare(
        self, request: Request, template: str, values: dict[str, Any], status: int = 200
    ) -> HTMLResponse:
        """A page for somebody who is not signed in."""
        frame = {"theme": _theme(request)}
        return HTMLResponse(self._shared.templates.page(template, {**frame, **values}), status)

    def to_sign_in(self, request: Request) -> Response:
        """Where to go without a session."""
        if request.headers.get("sec-fetch-site") == "cross-site" and request.method == "GET":
            # A Strict cookie is not sent when a link of another site leads here: ask again from here.
            return self.bare(request, "again.html", {})
        return RedirectResponse(self.url("/sign-in" + query(next=self._here(request))), 303)

    def url(self, address: str) -> str:
        """An address of ours with the prefix."""
        return self._shared.options.prefix + address

    def trouble(self, request: Request, error: Exception) -> Response:
        """What is said instead of a page."""
        if isinstance(error, CallFailed) and error.failure.code is grpc.StatusCode.UNAUTHENTICATED:
            response: Response = RedirectResponse(
                self.url("/sign-in" + query(next=self._here(request), over=1)), 303
            )
            self._shared.entry.take(response)
            return response
        return self.say(request, trouble_of(error, self._shared.brokers.url))

    def say(self, request: Request, trouble: Trouble) -> Response:
        """A page that says what is wrong."""
        session = self._shared.entry.session(request)
        values = {"trouble": trouble}
        if session is None:
            return self.bare(request, "trouble_bare.html", values, trouble.status)
        live = self._here(request) if trouble.status == 503 else ""
        page = Page("trouble.html", trouble.heading, "", values, live)
        return self.shown(request, session, page, status=trouble.status)

    async def no_page(self, request: Request, _: Exception) -> Response:
        """There is no such address."""
        return self.say(request, Trouble(404, "There is no such page", "The address leads nowhere."))

    async def defect(self, request: Request, error: Exception) -> Response:
        """A defect of the dashboard; its log has the number that the page says."""
        incident = secrets.token_hex(6)
        log.error("the page %s failed, incident %s", self.path(request), incident, exc_info=error)
        sentence = f"That is a defect of the dashboard. Its log says more: incident {incident}."
        return self.bare(
            request, "trouble_bare.html", {"trouble": Trouble(500, "This page failed", sentence)}, 500
        )

    def _here(self, request: Request) -> str:
        address = self.path(request) + (f"?{request.url.query}" if request.url.query else "")
        return address if is_local(address) else "/"

    def _frame(self, request: Request, session: BrowserSession) -> dict[str, Any]:
        return {
            "csrf": self._shared.entry.sessions.csrf(session),
            "signed_in": session.token is not None,
            "theme": _theme(request),
            "answers_at": self._shared.brokers.url,
        }


def _jump(request: Request) -> str | None:
    """Where a filter that is nothing but an id leads."""
    line = request.query_params.get("filter", "").strip()
    return "/task" + query(id=line.lower()) if TASK_ID.fullmatch(line) else None


def _theme(request: Request) -> str:
    chosen = request.cookies.get("hyrex-theme", "")
    return chosen if chosen in THEMES else ""


def trouble_of(error: Exception, broker_url: str) -> Trouble:
    """The words for an error."""
    if isinstance(error, CallFailed):
        return _refused_call(error.failure, broker_url)
    if isinstance(error, Missing):
        return Trouble(404, "Not found", f"{str(error)[:1].upper()}{str(error)[1:]}.")
    return Trouble(400, "That cannot be done", f"{str(error)[:1].upper()}{str(error)[1:]}.")


def _refused_call(failure: CallFailure, broker_url: str) -> Trouble:
    words = failure.message or failure.code.name
    if is_away(failure):
        if failure.reason == "STORAGE_UNAVAILABLE":
            return Trouble(503, "The database does not answer", f"The broker says: {words}.")
        sentence = f"Nobody answers at {broker_url}. This page shows itself as soon as a broker does."
        return Trouble(503, "No broker answers", sentence)
    match failure.code:
        case grpc.StatusCode.NOT_FOUND:
            return Trouble(404, "Not found", f"{words}.")
        case grpc.StatusCode.PERMISSION_DENIED:
            return Trouble(403, "Your token may not do this", f"{words}.")
        case grpc.StatusCode.INVALID_ARGUMENT | grpc.StatusCode.FAILED_PRECONDITION:
            return Trouble(400, "The broker refused this", f"{words}.")
        case grpc.StatusCode.UNIMPLEMENTED:
            return Trouble(501, "This broker is older", "It does not know this call; upgrade the brokers.")
        case _:
            return Trouble(502, "The broker refused this", f"{words} ({failure.code.name}).")
