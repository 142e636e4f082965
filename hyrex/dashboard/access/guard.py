"""The doors around every request: the name of the host, the origin of a POST, the headers of the answer.

A page of another site can have a browser send requests to the dashboard: by a name that it makes point to
this machine (DNS rebinding, rule 43), or by a form. Both are refused before anything else is looked at.
"""

from collections.abc import Sequence
from typing import Final
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from hyrex.dashboard.options import DashboardOptions
from hyrex.runtime.hosts import host_name

POLICY: Final = (
    "default-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'; object-src 'none'"
)
SAFE_METHODS: Final = ("GET", "HEAD")
LONGEST_BODY: Final = 64 * 1024


class Guard:
    """Refuses what comes by a foreign name or from a foreign page; sets the headers of every answer."""

    def __init__(self, app: ASGIApp, options: DashboardOptions) -> None:
        self._app = app
        self._hosts = options.allowed_hosts
        self._headers = _headers(options)
        self._schemes = ("https",) if options.https else ("http", "https")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in self._headers:
                    headers.setdefault(name, value)
            await send(message)

        refused = self._refusal(scope)
        await (refused or self._app)(scope, receive, send_with_headers)

    def _refusal(self, scope: Scope) -> PlainTextResponse | None:
        headers = Headers(scope=scope)
        hosts = headers.getlist("host")
        if len(hosts) != 1 or host_name(hosts[0]) not in self._hosts:
            return PlainTextResponse(
                "This dashboard does not answer to that host name. Start it with --host-name NAME.\n", 421
            )
        if scope["method"] in SAFE_METHODS:
            return None
        if scope["method"] != "POST":
            return PlainTextResponse("Only GET and POST are understood.\n", 405)
        if not comes_from_here(headers, hosts[0], self._schemes):
            return PlainTextResponse("The request comes from a page of another site.\n", 403)
        if not 0 <= _length(headers) <= LONGEST_BODY:
            return PlainTextResponse("The form is too large.\n", 413)
        return None


def comes_from_here(headers: Headers, host: str, schemes: Sequence[str]) -> bool:
    """True if the browser says that a page of this very dashboard made the request."""
    site = headers.get("sec-fetch-site", "same-origin")
    origins = headers.getlist("origin")
    if site != "same-origin" or len(origins) != 1:
        return False
    try:
        origin = urlsplit(origins[0])
    except ValueError:
        return False
    return origin.scheme in schemes and origin.netloc.lower() == host.lower()


def _length(headers: Headers) -> int:
    given = headers.get("content-length", "0")
    if "transfer-encoding" in headers or not given.isdecimal():
        return -1
    return int(given)


def _headers(options: DashboardOptions) -> Sequence[tuple[str, str]]:
    always = [
        ("content-security-policy", POLICY),
        ("x-content-type-options", "nosniff"),
        ("x-frame-options", "DENY"),
        # With no-referrer browsers send "Origin: null" with forms.
        ("referrer-policy", "same-origin"),
        ("cross-origin-opener-policy", "same-origin"),
        ("cross-origin-resource-policy", "same-origin"),
        ("permissions-policy", "camera=(), geolocation=(), microphone=(), payment=(), usb=()"),
        ("cache-control", "no-store"),
    ]
    if options.https:
        always.append(("strict-transport-security", "max-age=31536000"))
    return tuple(always)
