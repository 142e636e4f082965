"""What the dashboard was asked for, checked before anything starts."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from hyrex.address import is_loopback, parse_url

PREFIX: Final = re.compile(r"(?:/[A-Za-z0-9_-]+)+")
HOST_NAME: Final = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9.-]*[A-Za-z0-9])?")
EVERYWHERE: Final = ("0.0.0.0", "::")
TRACE_ID: Final = "TRACE_ID"
LOOPBACK_NAMES: Final = ("localhost", "127.0.0.1", "::1")


class OptionsUnusable(Exception):
    """An option cannot be used; the text is one line, with the remedy."""


@dataclass(frozen=True, slots=True)
class DashboardOptions:
    """Where the dashboard listens, which brokers it asks, and what it lets people do."""

    broker_url: str
    host: str = "127.0.0.1"
    port: int = 8787
    host_names: tuple[str, ...] = ()
    prefix: str = ""
    read_only: bool = False
    insecure: bool = False
    behind_https: bool = False
    tls_cert: Path | None = None
    tls_key: Path | None = None
    key: str | None = None
    trace_url: str = ""
    """Where a trace is shown: an address with TRACE_ID in it."""
    link_keys: tuple[str, ...] = ()
    """Which signed links it serves: those of these keys."""
    link_token: str | None = None
    """The token with which it does what signed links say."""

    @property
    def on_loopback(self) -> bool:
        """True if nobody outside of this machine can connect."""
        return is_loopback(self.host)

    @property
    def https(self) -> bool:
        """True if browsers come by TLS, to the dashboard itself or to a proxy in front of it."""
        return self.behind_https or self.tls_cert is not None

    @property
    def allowed_hosts(self) -> frozenset[str]:
        """The names by which browsers may address it, in lower case."""
        named = () if self.host in EVERYWHERE else (self.host,)
        return frozenset(name.lower() for name in (*LOOPBACK_NAMES, *named, *self.host_names))

    @property
    def url(self) -> str:
        """Where a person of this machine finds it."""
        host = "localhost" if self.host in (*EVERYWHERE, "127.0.0.1") else self.host
        shown = f"[{host}]" if ":" in host else host
        return f"{'https' if self.tls_cert else 'http'}://{shown}:{self.port}{self.prefix}/"


def checked(options: DashboardOptions) -> DashboardOptions:
    """The options, unchanged. Raises: OptionsUnusable."""
    try:
        parse_url(options.broker_url)
    except ValueError as error:
        raise OptionsUnusable(str(error)) from None
    if options.prefix and not PREFIX.fullmatch(options.prefix):
        raise OptionsUnusable(f"--prefix {options.prefix}: must be like /hyrex, without a slash at its end")
    for name in options.host_names:
        if not HOST_NAME.fullmatch(name):
            raise OptionsUnusable(f"--host-name {name}: must be a name alone, like tasks.example.org")
    if options.trace_url and not _shows_traces(options.trace_url):
        raise OptionsUnusable(
            f"--trace-url {options.trace_url}: must be an http or https address with {TRACE_ID} in its path"
            f" or query, like https://jaeger.example.org/trace/{TRACE_ID}"
        )
    if (options.tls_cert is None) != (options.tls_key is None):
        raise OptionsUnusable("--tls-cert and --tls-key go together")
    for path in filter(None, (options.tls_cert, options.tls_key)):
        if not path.is_file():
            raise OptionsUnusable(f"{path}: there is no such file")
    _check_exposure(options)
    return options


def _shows_traces(url: str) -> bool:
    try:
        parts = urlsplit(url)
    except ValueError:
        return False
    behind = f"{parts.path}?{parts.query}#{parts.fragment}"
    return parts.scheme in ("http", "https") and bool(parts.hostname) and TRACE_ID in behind


def _check_exposure(options: DashboardOptions) -> None:
    if options.on_loopback or options.https or options.insecure:
        return
    raise OptionsUnusable(
        f"--listen {options.host}:{options.port} sends tokens and cookies unencrypted over the network; give "
        "--tls-cert and --tls-key, or say --behind-https where a proxy in front speaks TLS, or --insecure"
    )
