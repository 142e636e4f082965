"""The server of the dashboard: listens, says that it is ready, and ends on a signal or with its parent."""

import asyncio
import logging
import os
import signal
import socket
import sys
from collections.abc import Callable
from dataclasses import replace
from types import FrameType
from typing import Final

import uvicorn

from hyrex.dashboard.app import make_app
from hyrex.dashboard.options import DashboardOptions, OptionsUnusable

PARENT_LOOK_S: Final = 0.5
MOST_CONNECTIONS: Final = 4000


class _DashboardServer(uvicorn.Server):
    """Ends the streams of pages first: the server would wait for them."""

    def __init__(self, config: uvicorn.Config, url: str, stop: Callable[[], None]) -> None:
        super().__init__(config)
        self._url = url
        self._stop_streams = stop

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """End with status 0: uvicorn's own method has the signal raised again when the server has stopped,
        and the process would end as if it had been killed."""
        self.force_exit = self.should_exit and sig == signal.SIGINT  # Ctrl-C again
        self.leave()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started:
            print(f"dashboard ready: {self._url}", flush=True)

    def leave(self) -> None:
        """End as on a signal."""
        self._stop_streams()
        self.should_exit = True


def serve(options: DashboardOptions, parent: int | None = None) -> None:
    """Serve until SIGTERM or Ctrl-C, or until the process `parent` has ended. Raises: OptionsUnusable."""
    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="%(levelname)s %(name)s: %(message)s")
    listening = _listening(options.host, options.port)
    options = replace(options, port=listening.getsockname()[1])
    asyncio.run(_serve(options, listening, parent))


async def _serve(options: DashboardOptions, listening: socket.socket, parent: int | None) -> None:
    app = make_app(options)
    config = uvicorn.Config(
        app,
        log_config=None,
        access_log=False,  # addresses have names of queues and filters
        server_header=False,
        proxy_headers=False,
        ws="none",
        http="h11",
        lifespan="on",
        limit_concurrency=MOST_CONNECTIONS,
        timeout_graceful_shutdown=2,
        ssl_certfile=options.tls_cert,
        ssl_keyfile=options.tls_key,
    )
    logging.getLogger("uvicorn").setLevel(logging.WARNING)
    server = _DashboardServer(config, options.url, app.state.stop)
    async with asyncio.TaskGroup() as parts:
        watching = parts.create_task(_leave_with(parent, server)) if parent is not None else None
        await server.serve(sockets=[listening])
        if watching is not None:
            watching.cancel()


async def _leave_with(parent: int, server: _DashboardServer) -> None:
    while os.getppid() == parent:  # noqa: ASYNC110  # no event tells of it
        await asyncio.sleep(PARENT_LOOK_S)
    server.leave()


def _listening(host: str, port: int) -> socket.socket:
    try:
        family, _, _, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listening = socket.socket(family)
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(address)
    except OSError as error:
        raise OptionsUnusable(f"cannot listen on {host}:{port}: {error.strerror or error}") from None
    return listening
