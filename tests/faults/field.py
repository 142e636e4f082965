"""A field for fault tests: brokers and workers on one database, whose parts can be killed, stopped, cut."""

import asyncio
import signal
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import psutil

from hyrex import TaskHandle
from tests.chaos.journal import VARIABLE, Journal
from tests.chaos.proxy import Proxy
from tests.chaos.record import Execution, digest
from tests.support.eventually import eventually
from tests.support.postgres import connect
from tests.support.process import Process
from tests.support.processes import Processes, RunningBroker
from tests.support.trees import running, signal_all, tree

LEASE_S = 2.0
"""Where leases must end."""
LONG_LEASE_S = 6.0
"""Where they must not, on a busy machine too."""
PATIENCE_S = 60.0
RECEIVED: Final = """
select session.received_through >= lease.sequence
from lease join worker_session session on session.id = lease.session_id where lease.task_id = $1
"""


@dataclass
class Field:
    """Starts parties; finds and signals their parts; reads the journal."""

    processes: Processes
    database_url: str
    directory: Path
    proxies: list[Proxy] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.path = self.directory / "journal.jsonl"
        self.journal = Journal(self.path)

    def broker(self, *args: str, port: int = 0, lease_s: float = LEASE_S) -> RunningBroker:
        """A broker with short leases."""
        return self.processes.broker(self.database_url, "--lease-duration", str(lease_s), *args, port=port)

    def worker(self, *urls: str, args: tuple[str, ...] = ("-p", "1")) -> Process:
        """A worker for tests.faults.app, at the first of some brokers that answers."""
        env = {VARIABLE: str(self.path)}
        return self.processes.worker(
            ",".join(urls), "tests.faults.app:app", "--grace", "0.5", "--drain-timeout", "5", *args, env=env
        )

    def proxy_to(self, url: str) -> Proxy:
        """A cable to a broker or to Postgres."""
        location = urlsplit(url)
        assert location.hostname is not None
        assert location.port is not None
        proxy = Proxy((location.hostname, location.port))
        self.proxies.append(proxy)
        return proxy

    def executions(self, handle: TaskHandle[Any]) -> list[Execution]:
        """Every time that the task's code began."""
        return digest(self.journal.read()).executions[str(handle.id)]

    def received(self, handle: TaskHandle[Any]) -> Execution:
        """Wait until the task's code has begun and a heartbeat has said that its run was received."""
        eventually(lambda: asyncio.run(self._is_received(str(handle.id))), PATIENCE_S)
        return self.begun(handle)

    async def _is_received(self, task_id: str) -> bool:
        connection = await connect(self.database_url)
        try:
            return bool(await connection.fetchval(RECEIVED, task_id))
        finally:
            await connection.close()

    def begun(self, handle: TaskHandle[Any], times: int = 1) -> Execution:
        """Wait until the task's code has begun so many times; the last of these."""
        return eventually(lambda: self.executions(handle)[times - 1 : times], PATIENCE_S)[0]


def part(worker: Process, module: str) -> psutil.Process:
    """A worker's process that runs a module."""
    return eventually(lambda: running(worker.pid, module))[0]


def whole(worker: Process) -> list[psutil.Process]:
    """A worker's processes, the launcher first."""
    return tree(worker.pid)


def kill(processes: Iterable[psutil.Process]) -> None:
    """SIGKILL, as if all at once: nobody sees another one end."""
    victims = list(processes)
    signal_all(victims, signal.SIGSTOP)
    signal_all(reversed(victims), signal.SIGKILL)


def stop(processes: list[psutil.Process]) -> Callable[[], None]:
    """SIGSTOP; call what is returned to let them go on."""
    signal_all(processes, signal.SIGSTOP)
    return lambda: signal_all(processes, signal.SIGCONT)


def ends(handle: TaskHandle[Any]) -> list[str]:
    """How each run of a task ended, by what the broker says now."""
    handle.refresh()
    return [str(run.status) for run in handle.task_runs]
