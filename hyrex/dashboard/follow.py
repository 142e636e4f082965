"""The stream of a page's live parts, for the session that looks at it."""

import logging
from urllib.parse import urlsplit

import grpc
from starlette.datastructures import QueryParams
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response, StreamingResponse

from hyrex.dashboard.brokers import is_away
from hyrex.dashboard.live import LivePages, PageLook
from hyrex.dashboard.pages.page import FormRefused, Missing
from hyrex.dashboard.pages.screens import SCREENS, is_local
from hyrex.dashboard.shared import Shared
from hyrex.transport.errors import CallFailed

log = logging.getLogger("hyrex.dashboard")


class Follow:
    """Server-sent events for pages that follow the cluster."""

    def __init__(self, shared: Shared) -> None:
        self._shared = shared
        self._pages: LivePages | None = None

    async def stream(self, request: Request) -> Response:
        """Events for the page named by `of`, an address of SCREENS."""
        session = self._shared.entry.session(request)
        address = request.query_params.get("of", "")
        if session is None:
            return PlainTextResponse("Sign in first.\n", 401)
        if not is_local(address):
            return PlainTextResponse("There is no such page.\n", 404)
        if self._pages is None:
            self._pages = LivePages(self.look)
        if self._pages.full_for(session.token):
            return PlainTextResponse("Too many look already.\n", 503)
        headers = {"cache-control": "no-store", "x-accel-buffering": "no"}
        events = self._pages.follow(session.token, address, session.ends_at)
        return StreamingResponse(events, media_type="text/event-stream", headers=headers)

    def stop(self) -> None:
        """End all streams."""
        if self._pages is not None:
            self._pages.stop()

    async def look(self, token: str | None, address: str) -> PageLook:
        """The live parts of an address now. Raises nothing: what goes wrong is a state."""
        parts = urlsplit(address)
        visit = self._shared.visit(token, QueryParams(parts.query))
        try:
            page = await SCREENS[parts.path](visit)
            caller = await self._shared.cluster.caller(token)
            return PageLook(
                "live", self._shared.templates.regions(page.template, {"caller": caller, **page.values})
            )
        except (Missing, FormRefused):
            return PageLook("missing")
        except CallFailed as error:
            if error.failure.code is grpc.StatusCode.UNAUTHENTICATED:
                return PageLook("ended")
            return PageLook("gone" if is_away(error.failure) else "missing")
        except Exception:
            log.exception("a live page failed")
            return PageLook("missing")
