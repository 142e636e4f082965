"""The stage of a benchmark run: one durable Postgres, a database for each measurement, real processes."""

import asyncio
import itertools
import shutil
import socket
import sys
import threading
from collections.abc import Callable, Coroutine, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Final, Self, TypeVar
from urllib.parse import urlsplit, urlunsplit

import asyncpg

from benchmarks.processes import Process, actor
from hyrex_broker.embedded import EmbeddedPostgres
from hyrex_broker.storage.migrate import migrate

T = TypeVar("T")
APP: Final = "benchmarks.actors.app:app"
STARTERS: Final = 4
BROKER_READY: Final = r"broker ready: listening on (\S+:\d+)"


class Stage:
    """Starts what measurements need; whatever was started ends with the stage."""

    def __init__(self) -> None:
        self._cleanup = ExitStack()
        self._started: list[Process] = []
        self._databases: list[str] = []
        # Its threads live as long as the stage: a tied process dies with the thread that started it.
        self._starters = ThreadPoolExecutor(max_workers=STARTERS)
        self._creating = threading.Lock()
        self._server = EmbeddedPostgres()
        self._numbers = itertools.count(1)

    def __enter__(self) -> Self:
        self._cleanup.enter_context(self._server)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.strike()
        self._starters.shutdown()
        self._cleanup.close()

    def start(self, *makers: Callable[[], T]) -> list[T]:
        """Make several things that start processes, at the same time."""
        return [future.result() for future in [self._starters.submit(maker) for maker in makers]]

    def strike(self) -> None:
        """End what was started since the last time, and drop its databases."""
        while self._started:
            self._started.pop().kill()
        while self._databases:
            self.drop(self._databases.pop())

    @property
    def postmaster(self) -> int:
        """Process id of Postgres."""
        return self._server.pid

    @property
    def postgres_version(self) -> str:
        """For the record."""
        return self._server.version

    def database(self, *, migrated: bool = True) -> str:
        """URL of a new database, with Hyrex's schema or empty."""
        name = f"bench_{next(self._numbers)}"
        with self._creating:
            self.run_sql(self._server.url, f'create database "{name}"')
        url = urlunsplit(urlsplit(self._server.url)._replace(path=f"/{name}"))
        self._databases.append(url)
        if migrated:
            run(migrate(url))
            self.run_sql(url, f'alter database "{name}" set search_path = hyrex, public')
        return url

    def drop(self, database_url: str) -> None:
        """Give a database's disk space back."""
        name = urlsplit(database_url).path.lstrip("/")
        self.run_sql(self._server.url, f'drop database "{name}" with (force)')

    def run_sql(self, url: str, *statements: str) -> list[list[asyncpg.Record]]:
        """Rows of some statements, each in a transaction of its own."""
        return run(_fetch(url, statements))

    def keep(self, process: Process) -> Process:
        """End a process with the stage."""
        self._started.append(process)
        return process

    def actor(self, module: str, *arguments: str, env: Mapping[str, str] | None = None) -> Process:
        """An actor that is ready for orders."""
        return self.keep(actor(module, *arguments, env=env))

    def redis(self) -> "Redis | None":
        """A new Redis with neither log nor dumps, where there is a redis-server."""
        program = shutil.which("redis-server")
        if program is None:
            return None
        port = free_port()
        command = [program, "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]
        process = self.keep(Process("redis", command))
        process.wait_for("Ready to accept connections")
        return Redis(process, f"redis://127.0.0.1:{port}")

    def broker(
        self,
        database_url: str,
        *arguments: str,
        handoff: bool = True,
        env: Mapping[str, str] | None = None,
    ) -> "Broker":
        """A broker process that is ready."""
        module = ["hyrex_broker"] if handoff else ["benchmarks.actors.plain_broker"]
        command = [sys.executable, "-m", *module, "--listen", "127.0.0.1:0", *arguments]
        environment = {"HYREX_DATABASE_URL": database_url} | dict(env or {})
        process = self.keep(Process("broker", command, environment))
        return Broker(process, process.wait_for(BROKER_READY)[1], secure="--tls-cert" in arguments)

    def gateway(self, cells: str) -> "Broker":
        """A gateway process that is ready."""
        command = [sys.executable, "-m", "hyrex_broker.gateway", "--listen", "127.0.0.1:0"]
        process = self.keep(Process("gateway", command, {"HYREX_CELLS": cells}))
        return Broker(process, process.wait_for(r"gateway ready: listening on (\S+)")[1], secure=False)

    def worker(self, broker_url: str, *arguments: str, env: Mapping[str, str] | None = None) -> Process:
        """A Hyrex worker for the benchmarks' app that is ready."""
        command = [sys.executable, "-m", "hyrex.worker", APP, *arguments]
        environment = {"HYREX_BROKER_URL": broker_url} | dict(env or {})
        process = self.keep(Process("worker", command, environment))
        process.wait_for(r"worker ready: ")
        return process


@dataclass(frozen=True, slots=True)
class Broker:
    """A running broker."""

    process: Process
    address: str
    secure: bool = False

    @property
    def url(self) -> str:
        """What clients connect to."""
        return f"{'grpcs' if self.secure else 'grpc'}://{self.address}"


@dataclass(frozen=True, slots=True)
class Redis:
    """A running Redis."""

    process: Process
    url: str


def free_port() -> int:
    """A port of the loopback that nobody uses now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def run(work: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine on a loop of its own."""
    return asyncio.run(work)


async def _fetch(url: str, statements: tuple[str, ...]) -> list[list[asyncpg.Record]]:
    connection = await asyncpg.connect(url, timeout=30)
    try:
        return [await connection.fetch(statement) for statement in statements]
    finally:
        await connection.close()
