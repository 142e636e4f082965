"""Serves metrics over HTTP to Prometheus: a few threads at most, none of which a slow reader holds for long.

Needs prometheus-client, which is imported only where metrics are wanted.
"""

import logging
import socket
import threading
from collections.abc import Iterable
from socketserver import ThreadingMixIn
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Protocol
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer

from hyrex.runtime.hosts import anybody_can_register, host_name

if TYPE_CHECKING:
    from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

    from prometheus_client.metrics_core import Metric

__all__ = [
    "MetricsUnavailable", "ScrapeAddress", "ServedMetrics", "ShownMetrics", "address_of", "serve_metrics",
]  # fmt: skip

log = logging.getLogger("hyrex")

DEFAULT_HOST: Final = "127.0.0.1"
MOST_SCRAPES: Final = 4
_PATIENCE_S: Final = 10.0


class MetricsUnavailable(Exception):
    """Metrics cannot be served; the text says why in one line."""


class ShownMetrics(Protocol):
    """What a scrape shows."""

    def collect(self) -> Iterable["Metric"]:
        """The metrics as they are now; called in a thread of a scrape."""
        ...


class ScrapeAddress(NamedTuple):
    """Where to listen, and the names by which scrapes may address it, beside those that no foreign page can
    have."""

    host: str
    port: int
    names: tuple[str, ...] = ()

    def __str__(self) -> str:
        """As `address_of` reads it."""
        shown = f"[{self.host}]" if ":" in self.host else self.host
        return ",".join([f"{shown}:{self.port}", *self.names])

    def answers_to(self, host: str) -> bool:
        """True if this Host header (empty: none) is not that of a foreign page."""
        name = host_name(host)
        own = (self.host, socket.gethostname(), *self.names)
        return not host or not anybody_can_register(name) or name in (each.lower() for each in own)


def address_of(text: str) -> ScrapeAddress:
    """The address in `HOST:PORT`, `:PORT` or `PORT`, and names behind it, each after a comma; without a host
    it is the loopback. Raises ValueError."""
    address, *names = text.split(",")
    host, _, port = address.rpartition(":")
    if not port.isdecimal() or not 0 <= int(port) <= 65_535:
        raise ValueError(f"--metrics {text}: use HOST:PORT, or PORT for {DEFAULT_HOST}")
    for name in names:
        if not name or host_name(name) != name.lower():
            raise ValueError(f"--metrics {text}: {name!r} is no name alone, like broker-1.example.org")
    return ScrapeAddress(host.removeprefix("[").removesuffix("]") or DEFAULT_HOST, int(port), tuple(names))


class _ScrapeHandler(WSGIRequestHandler):
    timeout = _PATIENCE_S

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        log.debug(format, *args)


class _ScrapeServer(ThreadingMixIn, WSGIServer):
    """Answers at most MOST_SCRAPES at a time; whoever comes meanwhile is hung up on."""

    daemon_threads = True

    def __init__(self, host: str, port: int) -> None:
        self.address_family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self._room = threading.BoundedSemaphore(MOST_SCRAPES)
        super().__init__((host, port), _ScrapeHandler)

    def server_bind(self) -> None:
        """Bind, without asking a name server who we are."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.socket.bind(self.server_address)
        self.server_address = self.socket.getsockname()
        self.server_name, self.server_port = str(self.server_address[0]), int(self.server_address[1])
        self.setup_environ()

    def process_request(self, request: Any, client_address: Any) -> None:
        if self._room.acquire(blocking=False):
            super().process_request(request, client_address)
        else:
            self.shutdown_request(request)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._room.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        log.debug("a scrape ended early", exc_info=True)


class ServedMetrics:
    """Metrics that are being served, until `close`."""

    def __init__(self, server: _ScrapeServer, host: str) -> None:
        self._server = server
        shown = f"[{host}]" if ":" in host else host
        self.url = f"http://{shown}:{server.server_port}/metrics"
        self._thread = threading.Thread(target=server.serve_forever, args=(0.5,), daemon=True, name="metrics")
        self._thread.start()

    def close(self) -> None:
        """Stop listening."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


def _guarded(app: "WSGIApplication", address: ScrapeAddress) -> "WSGIApplication":
    """The same, for scrapes that address it by a name of its own."""

    def answer(environ: "WSGIEnvironment", start_response: "StartResponse") -> Iterable[bytes]:
        if address.answers_to(environ.get("HTTP_HOST", "")):
            return app(environ, start_response)
        start_response("421 Misdirected Request", [("Content-Type", "text/plain; charset=utf-8")])
        return [b"These metrics do not answer to that host name; add it: --metrics HOST:PORT,NAME\n"]

    return answer


def serve_metrics(source: ShownMetrics, address: ScrapeAddress) -> ServedMetrics:
    """Listen and answer each GET with what the source shows, and what this process uses of the machine.

    Raises: MetricsUnavailable if prometheus-client is missing or the address cannot be listened on.
    """
    try:
        from prometheus_client import CollectorRegistry, ProcessCollector, make_wsgi_app
        from prometheus_client.registry import Collector
    except ImportError:
        raise MetricsUnavailable(
            "--metrics needs prometheus-client, which is not installed: pip install 'hyrex[metrics]'"
        ) from None

    class _Collector(Collector):
        def collect(self) -> Iterable["Metric"]:
            return source.collect()

    registry = CollectorRegistry()
    ProcessCollector(registry=registry)
    registry.register(_Collector())
    try:
        server = _ScrapeServer(address.host, address.port)
    except OSError as error:
        raise MetricsUnavailable(f"--metrics {address} cannot be listened on: {error.strerror}") from None
    server.set_app(_guarded(make_wsgi_app(registry), address))
    return ServedMetrics(server, address.host)
