"""A real broker and real workers for a user's tests, as processes, with a private Postgres."""

import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from hyrex.client.process import close_client
from hyrex.errors import HyrexError

__all__ = ["LiveBroker", "LiveHyrex", "live_broker", "live_hyrex"]

READY_S: Final = 60.0
END_S: Final = 10.0
SHOWN_CHARACTERS: Final = 4000
NOT_INHERITED: Final = frozenset(  # what names or opens some other Hyrex
    f"HYREX_{name}"
    for name in ("CELLS", "DATABASE_URL", "DATABASE_URL_FILE", "TOKEN", "TOKEN_FILE", "SCHEMA")
)


class LiveProcess:
    """A process that prints a line when it is ready. Its output is kept, for the error if it does not."""

    def __init__(self, command: list[str], ready: str, env: dict[str, str], cwd: Path | None) -> None:
        self.printed = ""
        self.found: re.Match[str] | None = None
        self._pattern = re.compile(ready)
        self._answered = threading.Event()
        self._command = " ".join(command[1:])
        self.process = subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            text=True,
            env={key: value for key, value in os.environ.items() if key not in NOT_INHERITED} | env,
            cwd=cwd,
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        with self.process.stdout as lines:
            for line in lines:
                self.printed += line
                self.found = self.found or self._pattern.search(line)
                if self.found:
                    self._answered.set()
        self._answered.set()

    def wait_ready(self) -> re.Match[str]:
        """Wait for the line that says it is ready. Raises HyrexError with its output."""
        if not self._answered.wait(READY_S) or self.found is None:
            self.end()
            raise HyrexError(f"{self._command} did not become ready:\n{self.printed[-SHOWN_CHARACTERS:]}")
        return self.found

    def end(self) -> None:
        """Ask it to end; kill it if it does not."""
        self.process.terminate()
        try:
            self.process.wait(END_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self._reader.join(END_S)


@dataclass(frozen=True, slots=True)
class LiveBroker:
    """The address of a broker, and its database."""

    url: str
    database_url: str


@dataclass(slots=True)
class LiveHyrex:
    """A broker, and the workers that a test starts."""

    broker: LiveBroker
    workers: list[LiveProcess] = field(default_factory=list)

    @property
    def url(self) -> str:
        """The broker's URL; HYREX_BROKER_URL holds it too."""
        return self.broker.url

    def start_worker(self, target: str, *args: str, cwd: Path | None = None) -> LiveProcess:
        """Run `hyrex run-worker TARGET ARGS` until the test ends; returns when it is ready."""
        command = [sys.executable, "-P", "-m", "hyrex.worker", target, "--parent", str(os.getpid()), *args]
        env = {"HYREX_BROKER_URL": self.broker.url, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
        worker = LiveProcess(command, r"worker ready: ", env, cwd)
        self.workers.append(worker)
        worker.wait_ready()
        return worker


@contextmanager
def live_broker(folder: Path) -> Iterator[LiveBroker]:
    """Run a broker on a private Postgres in `folder`, or on the database of HYREX_TEST_DATABASE_URL.

    HYREX_DATABASE_URL is not used, since tests may run in a shell that is set up for production.
    """
    with ExitStack() as stack:
        database_url = os.environ.get("HYREX_TEST_DATABASE_URL") or _private_postgres(stack, folder)
        command = [sys.executable, "-P", "-m", "hyrex_broker", "--listen", "127.0.0.1:0"]
        command += ["--parent", str(os.getpid())]
        service = LiveProcess(command, r"listening on (\S+:\d+)", {"HYREX_DATABASE_URL": database_url}, None)
        stack.callback(service.end)
        yield LiveBroker(f"grpc://{service.wait_ready()[1]}", database_url)


def _private_postgres(stack: ExitStack, folder: Path) -> str:
    from importlib import import_module

    # Imported by name, since the SDK does not depend on the broker; only this fixture needs it.
    postgres = import_module("hyrex_broker.embedded").EmbeddedPostgres(folder / "postgres")
    postgres.start()
    stack.callback(postgres.stop)
    url: str = postgres.url
    return url


@contextmanager
def live_hyrex(broker: LiveBroker) -> Iterator[LiveHyrex]:
    """Let a test start workers; they end with it."""
    live = LiveHyrex(broker)
    try:
        yield live
    finally:
        for worker in reversed(live.workers):
            worker.end()
        close_client()
