"""The parties: Postgres, brokers, workers, producers; each started, watched and started again.

What ends without having been ended is noted as a crash: no process may need a restart.
"""

import signal
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Protocol
from urllib.parse import urlsplit

import psutil

from hyrex_broker.embedded import EmbeddedPostgres
from tests.chaos.journal import VARIABLE, Journal
from tests.chaos.proxy import Cables, Proxy
from tests.chaos.rates import note_assigns
from tests.chaos.workflows import watch_decisions
from tests.support.ports import free_port
from tests.support.postgres import migrate_now, run_apart
from tests.support.process import Process
from tests.support.trees import running, signal_all, tree

_RESTART_AFTER_S: Final = 0.5
_LEAVE_WITHIN_S: Final = 20.0
_NO_DATABASE: Final = 3


@dataclass
class Party:
    """One process, or tree of processes, that is started again when it ends."""

    name: str
    command: list[str]
    env: Mapping[str, str]
    process: Process | None = None
    start_at: float = 0.0
    leave_by: float | None = None
    wanted: bool = True
    crashes: list[str] = field(default_factory=list)
    output: str = ""

    def start(self) -> None:
        """Start it now; nobody waits until it is ready."""
        self.process = Process(self.name, self.command, env=self.env)

    def tend(self) -> None:
        """Start it again where that is due; note an end that nobody asked for."""
        if self.process is not None and not self.process.running:
            status = self.process.wait()
            if self.leave_by is None and status != _NO_DATABASE:
                self._crashed(f"ended with {status}")
            self._ended(_RESTART_AFTER_S if self.leave_by is None else 0)
        if self.process is not None and self.leave_by is not None and time.monotonic() > self.leave_by:
            self._crashed(f"did not leave within {_LEAVE_WITHIN_S} s")
            self.kill(0)
        if self.process is None and self.wanted and time.monotonic() >= self.start_at:
            self.start()

    @property
    def all_output(self) -> str:
        """What it has printed in all its lives."""
        return self.output + (self.process.output if self.process else "")

    def is_ready(self, word: str) -> bool:
        """Return True if it runs and has said so."""
        return self.process is not None and self.process.running and word in self.process.output

    def kill(self, again_after_s: float) -> None:
        """SIGKILL it and everything below it; it comes back later."""
        if self.process is not None:
            signal_all(self.tree(), signal.SIGKILL)
            self.process.end_group()
            self._ended(again_after_s)

    def terminate(self) -> None:
        """SIGTERM; `tend` sees to the rest."""
        if self.process is not None and self.leave_by is None:
            self.process.signal(signal.SIGTERM)
            self.leave_by = time.monotonic() + _LEAVE_WITHIN_S

    def _crashed(self, how: str) -> None:
        assert self.process is not None
        self.crashes.append(f"{self.name} {how}\n{self.process.output[-4000:]}")

    def tree(self) -> list[psutil.Process]:
        """It and everything below it, as far as it lives."""
        if self.process is None:
            return []
        return tree(self.process.pid)

    def below(self, module: str) -> list[psutil.Process]:
        """Its processes that run a Python module."""
        return [] if self.process is None else running(self.process.pid, module)

    def _ended(self, again_after_s: float) -> None:
        assert self.process is not None
        self.output += self.process.output
        self.process.end_group()
        self.process = None
        self.leave_by = None
        self.start_at = time.monotonic() + again_after_s


class Postgres(Protocol):
    """The database of a cluster."""

    @property
    def url(self) -> str:
        """Where it accepts writes now."""
        ...

    @property
    def servers(self) -> Sequence[tuple[str, int]]:
        """Where brokers look for it."""
        ...

    def kill(self) -> None:
        """SIGKILL the server that accepts writes."""
        ...

    def start(self) -> None:
        """Start that server again."""
        ...

    def restart(self) -> None:
        """Shut that server down cleanly, and start it again."""
        ...

    def stop(self) -> None:
        """End it for good."""
        ...


class LoneServer(EmbeddedPostgres):
    """One server."""

    @property
    def servers(self) -> Sequence[tuple[str, int]]:
        """Where brokers look for it."""
        return [server_of(self.url)]


def server_of(url: str) -> tuple[str, int]:
    """The address in a URL with one server."""
    port = urlsplit(url).port
    assert port is not None
    return "127.0.0.1", port


def lone_server() -> LoneServer:
    """A running, migrated server."""
    server = LoneServer()
    server.start()
    migrate_now(server.url)
    return server


@dataclass(frozen=True, slots=True)
class Size:
    """How large the cluster is, and how short its leases are."""

    brokers: int = 3
    workers: int = 3
    producers: int = 2
    rate: float = 10.0
    lease_s: float = 5.0


class Cluster:
    """Everything that takes part, wired through proxies."""

    def __init__(self, size: Size, seed: int, directory: Path, postgres: Postgres | None = None) -> None:
        """`postgres`: a migrated database in place of a server of the cluster's own."""
        self.size = size
        self.directory = directory
        self.journal = Journal(directory / "journal.jsonl")
        self.postgres = postgres or lone_server()
        self.database_links = [Cables(self.postgres.servers) for _ in range(size.brokers)]
        ports = [free_port() for _ in range(size.brokers)]
        self.brokers = [
            Party(f"broker-{n}", self._broker_command(port), {"HYREX_DATABASE_URL": self._through(link)})
            for n, (port, link) in enumerate(zip(ports, self.database_links, strict=True))
        ]
        self.worker_links = [[Proxy(("127.0.0.1", port)) for port in ports] for _ in range(size.workers)]
        self.workers = [
            Party(f"worker-{n}", self._worker_command(n), self._env({"HYREX_BROKER_URL": _urls(links)}))
            for n, links in enumerate(self.worker_links)
        ]
        urls = ",".join(f"grpc://127.0.0.1:{port}" for port in ports)
        self.producers = [
            Party(f"producer-{n}", self._producer_command(seed + n), self._env({"HYREX_BROKER_URL": urls}))
            for n in range(size.producers)
        ]

    @property
    def parties(self) -> list[Party]:
        """All processes but Postgres."""
        return [*self.brokers, *self.workers, *self.producers]

    def start(self) -> None:
        """Start everything and wait until it is ready."""
        run_apart(note_assigns(self.postgres.url))
        run_apart(watch_decisions(self.postgres.url))
        for party in self.parties:
            party.start()
        for party, said in [
            *((b, "broker ready") for b in self.brokers),
            *((w, "ready") for w in self.workers),
        ]:
            assert party.process is not None
            party.process.wait_for(said, 60)

    def tend(self) -> None:
        """Start again what is due."""
        for party in self.parties:
            party.tend()

    def close(self) -> None:
        """End everything."""
        for party in reversed(self.parties):
            party.kill(0)
        for cables in self.database_links:
            cables.close()
        for proxy in (link for links in self.worker_links for link in links):
            proxy.close()
        self.postgres.stop()

    def _broker_command(self, port: int) -> list[str]:
        return [
            sys.executable, "-m", "hyrex_broker", "--listen", f"127.0.0.1:{port}",
            "--lease-duration", str(self.size.lease_s), "--drain-timeout", "3",
        ]  # fmt: skip

    def _worker_command(self, number: int) -> list[str]:
        return [
            sys.executable, "-m", "hyrex.worker", "tests.chaos.app:app", "--name", f"worker-{number}",
            "-p", "2", "--drain-timeout", "2", "--grace", "1",
        ]  # fmt: skip

    def _producer_command(self, seed: int) -> list[str]:
        return [sys.executable, "-m", "tests.chaos.producer", str(seed), str(self.size.rate)]

    def _env(self, more: Mapping[str, str] | None = None) -> dict[str, str]:
        return {VARIABLE: str(self.directory / "journal.jsonl"), **(more or {})}

    def _through(self, link: Cables) -> str:
        location = urlsplit(self.postgres.url)
        user = location.netloc.rpartition("@")[0]
        return location._replace(netloc=f"{user}@{link.address}").geturl()


def _urls(links: list[Proxy]) -> str:
    """All brokers for a worker; it begins with any."""
    return ",".join(f"grpc://{link.address}" for link in links)
