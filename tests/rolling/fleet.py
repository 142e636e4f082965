"""Two brokers, two workers and a sender for each version, on one Postgres; each part runs either version."""

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from tests.rolling.older import Version
from tests.support.ports import free_port
from tests.support.process import Process
from tests.support.processes import Processes

PROGRAMS: Final = Path(__file__).parent / "programs"
BROKERS, WORKERS = 2, 2


@dataclass
class Fleet:
    """What runs now. A part is replaced as an operator does it: stopped by SIGTERM, then started anew."""

    processes: Processes
    database_url: str
    runs: Path
    ports: list[int] = field(default_factory=lambda: [free_port() for _ in range(BROKERS)])
    brokers: list[Process] = field(default_factory=list)
    workers: list[Process] = field(default_factory=list)
    senders: list[Process] = field(default_factory=list)

    def start(self, version: Version, senders: tuple[Version, ...]) -> None:
        """Start everything in one version, and a sender of each."""
        self.brokers = [self._broker(version, number) for number in range(BROKERS)]
        self.workers = [self._worker(version, number) for number in range(WORKERS)]
        for each in senders:
            sender = self._program(f"sender of {each.name}", each, str(PROGRAMS / "rolling_sender.py"))
            sender.wait_for("^sending")
            self.senders.append(sender)

    def replace_broker(self, number: int, version: Version) -> None:
        """Stop one and start it in a version; the other serves meanwhile."""
        assert self.brokers[number].terminate() == 0
        self.brokers[number] = self._broker(version, number)

    def replace_worker(self, number: int, version: Version) -> None:
        """Start one in a version when the one before has finished what it ran."""
        assert self.workers[number].terminate() == 0
        self.workers[number] = self._worker(version, number)

    def broker_start(self, version: Version, number: int) -> Process:
        """Start a broker, without waiting until it is ready."""
        listen = f"127.0.0.1:{self.ports[number]}"
        arguments = ("-m", "hyrex_broker", "--listen", listen, "--name", f"broker-{number}")
        return self._program(f"broker-{number} of {version.name}", version, *arguments)

    def until_sent(self, more: int) -> None:
        """Wait until each sender had so many more tasks acknowledged, and so sends at what runs now."""
        for sender in self.senders:
            sender.wait_for(r"acknowledged", times=len(_ids(sender)) + more)

    def stop_senders(self) -> set[str]:
        """Stop them; every id that was acknowledged."""
        for sender in self.senders:
            assert sender.terminate() == 0
        return {each for sender in self.senders for each in _ids(sender)}

    def executed(self) -> list[str]:
        """The ids of all runs that began."""
        return self.runs.read_text().split()

    def _broker(self, version: Version, number: int) -> Process:
        process = self.broker_start(version, number)
        process.wait_for("broker ready")
        return process

    def _worker(self, version: Version, number: int) -> Process:
        arguments = ("-m", "hyrex.worker", "rolling_tasks:app", "--name", f"worker-{number}", "-p", "1")
        process = self._program(f"worker-{number} of {version.name}", version, *arguments)
        process.wait_for("worker ready: ")
        return process

    def _program(self, name: str, version: Version, *arguments: str) -> Process:
        env = {
            "PYTHONPATH": os.pathsep.join(filter(None, (version.path, str(PROGRAMS)))),
            "HYREX_DATABASE_URL": self.database_url,
            "HYREX_BROKER_URL": ",".join(f"grpc://127.0.0.1:{port}" for port in self.ports),
            "HYREX_ROLLING_RUNS": str(self.runs),
        }
        return self.processes.start(name, version.python, *arguments, env=env, cwd=self.runs.parent)


def _ids(sender: Process) -> list[str]:
    return [line.split()[1] for line in sender.output.splitlines() if line.startswith("acknowledged ")]
