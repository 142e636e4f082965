"""The processes of a soak: two brokers, workers and a sender on one Postgres."""

import sys
from collections.abc import Mapping
from typing import Final

from benchmarks.processes import Process
from benchmarks.stage import Broker, Stage, free_port

BROKERS: Final = 2
WORKERS: Final = 2
CHILDREN: Final = 1
APP: Final = "benchmarks.soak.tasks:app"
ACTOR: Final = "benchmarks.soak.sender"


class SoakCluster:
    """Started when it is made; ends with its stage."""

    def __init__(self, stage: Stage) -> None:
        self._stage = stage
        self.database = stage.database()
        self._ports = [free_port() for _ in range(BROKERS)]
        self._brokers = [self._broker(port) for port in self._ports]
        self._env = {"HYREX_BROKER_URL": ",".join(each.url for each in self._brokers)}
        self._workers = [self._worker(number) for number in range(WORKERS)]
        self.sender = stage.keep(Process("sender", [sys.executable, "-m", ACTOR], self._env))
        self.sender.wait_for(r"^actor ready")

    def tops(self) -> Mapping[str, int]:
        """The first process of each part, by name."""
        return {name: process.pid for name, process in self._parts().items()}

    def ended(self) -> list[str]:
        """The parts that run no more, with what they printed last."""
        return [process.last_words() for process in self._parts().values() if not process.running]

    def restart_broker(self, number: int) -> None:
        """Stop a broker as an operator does, and start it again at its port."""
        self._brokers[number].process.terminate()
        self._brokers[number] = self._broker(self._ports[number])

    def _parts(self) -> dict[str, Process]:
        brokers = {f"broker-{n}": broker.process for n, broker in enumerate(self._brokers)}
        workers = {f"worker-{n}": worker for n, worker in enumerate(self._workers)}
        return brokers | workers | {"sender": self.sender}

    def _broker(self, port: int) -> Broker:
        arguments = ("--listen", f"127.0.0.1:{port}", "--drain-timeout", "5")
        broker = self._stage.broker(self.database, *arguments)
        broker.process.ignore_lines()
        return broker

    def _worker(self, number: int) -> Process:
        name = f"worker-{number}"
        arguments = ["--name", name, "-p", str(CHILDREN)]
        command = [sys.executable, "-m", "hyrex.worker", APP, *arguments]
        process = self._stage.keep(Process(name, command, self._env))
        process.wait_for(r"worker ready: ")
        process.ignore_lines()
        return process
