"""The dashboard as an ASGI application: its routes, and what every request passes on its way."""

import hashlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Final

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.gzip import GZipMiddleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from hyrex.dashboard.access.entry import Entry
from hyrex.dashboard.access.guard import Guard
from hyrex.dashboard.answers import Answers
from hyrex.dashboard.brokers import Brokers
from hyrex.dashboard.cluster import ClusterView
from hyrex.dashboard.completions import Completions
from hyrex.dashboard.follow import Follow
from hyrex.dashboard.forms import Forms
from hyrex.dashboard.links import Links
from hyrex.dashboard.options import DashboardOptions
from hyrex.dashboard.pages.rights import scopes_of
from hyrex.dashboard.pages.screens import ACTIONS, SCREENS
from hyrex.dashboard.render.environment import Templates
from hyrex.dashboard.render.traces import trace_href
from hyrex.dashboard.shared import Shared
from hyrex.dashboard.sign_in import SignIn
from hyrex.dashboard.trends import Trends
from hyrex.links import PATH

STATIC: Final = Path(__file__).parent / "static"

NAVIGATION: Final = (
    ("overview", "/", "Overview", "o"),
    ("queues", "/queues", "Queues", "q"),
    ("tasks", "/tasks", "Tasks", "t"),
    ("workflows", "/workflows", "Workflows", "l"),
    ("failures", "/failures", "Failures", "f"),
    ("schedules", "/schedules", "Schedules", "s"),
    ("outbox", "/outbox", "Outbox", "x"),
    ("workers", "/workers", "Workers", "w"),
    ("brokers", "/brokers", "Brokers", "b"),
    ("bulk", "/operations", "Bulk", "u"),
    ("tokens", "/tokens", "Tokens", "k"),
    ("audit", "/audit", "Audit", "a"),
)
ON_A_PHONE: Final = ("overview", "queues", "tasks", "failures")
"""Screens at the foot of a phone; the others are behind "More"."""
QUICK_FILTERS: Final = (
    ("", "All"),
    ("status:failed status:timed_out status:lost", "Failed"),
    ("status:running", "Running"),
    ("status:queued", "Queued"),
    ("status:scheduled status:retrying", "Delayed"),
    ("newer:1h", "Last hour"),
)


class Assets(StaticFiles):
    """Files that never change under their address, which has a hash of their content."""

    def file_response(self, *args: object, **kwargs: object) -> Response:
        response = super().file_response(*args, **kwargs)  # type: ignore[arg-type]
        response.headers["cache-control"] = "public, max-age=31536000, immutable"
        return response


def make_app(options: DashboardOptions) -> Starlette:
    """The application; `app.state.stop()` ends its streams."""
    brokers = Brokers(options.broker_url)
    templates = Templates(_known_to_all(options))
    cluster, trends = ClusterView(brokers), Trends(brokers)
    shared = Shared(options, brokers, cluster, Entry(options, brokers), templates, trends)
    answers = Answers(shared)
    follow = Follow(shared)

    @asynccontextmanager
    async def life(_: Starlette) -> AsyncIterator[None]:
        yield
        await trends.close()
        await cluster.close()
        await brokers.close()

    forms, sign_in, signed = Forms(shared, answers), SignIn(shared, answers), Links(shared, answers)
    routes = [
        Route("/health", health),
        Route("/sign-in", sign_in.page),
        Route("/sign-in", sign_in.enter, methods=["POST"]),
        Route("/sign-out", sign_in.leave, methods=["POST"]),
        Route(PATH, signed.ask),
        Route(PATH, signed.do, methods=["POST"]),
        Route("/live", follow.stream),
        Route("/complete", Completions(shared).complete),
        *(Route(path, answers.screen) for path in SCREENS),
        *(Route(path, forms.ask) for path in ACTIONS),
        *(Route(path, forms.do, methods=["POST"]) for path in ACTIONS),
        Mount("/static", Assets(directory=STATIC)),
    ]
    if options.prefix:
        routes = [Mount(options.prefix, routes=routes), Route("/health", health)]
    app = Starlette(
        routes=routes,
        lifespan=life,
        middleware=[Middleware(Guard, options=options), Middleware(GZipMiddleware, minimum_size=1024)],
        exception_handlers={404: answers.no_page, Exception: answers.defect},
    )
    app.router.redirect_slashes = False
    app.state.stop = follow.stop
    return app


async def health(_: Request) -> Response:
    """Say that the process lives, whatever the brokers do."""
    return PlainTextResponse("ok\n")


def _known_to_all(options: DashboardOptions) -> dict[str, object]:
    digests = {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest()[:12] for path in sorted(STATIC.iterdir())
    }

    def asset(name: str) -> str:
        return f"{options.prefix}/static/{name}?v={digests[name]}"

    return {
        "asset": asset,
        "base": options.prefix,
        "read_only": options.read_only,
        "now": lambda: datetime.now(UTC),
        "broker_url": options.broker_url,
        "trace_href": partial(trace_href, options.trace_url),
        "screens": NAVIGATION,
        "on_a_phone": ON_A_PHONE,
        "quick_filters": QUICK_FILTERS,
        "scope_of": {path: action.scope for path, action in ACTIONS.items()},
        "scopes_of": scopes_of,
    }
