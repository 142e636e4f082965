"""Real brokers and workers as processes, for tests.

Everything started through these fixtures is killed when the test ends; when the test fails, what
the processes printed is shown with the failure.
"""

import sys
from collections.abc import Generator, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import pytest

from tests.support.process import Process

_STARTED = pytest.StashKey["list[Process]"]()


@dataclass(frozen=True, slots=True)
class RunningBroker:
    """A broker that has said it is ready."""

    process: Process
    address: str

    @property
    def url(self) -> str:
        """What clients and workers connect to."""
        return f"grpc://{self.address}"


@dataclass
class Processes:
    """Starts processes and remembers them; `end()` leaves none."""

    started: list[Process] = field(default_factory=list)

    def start(
        self, name: str, *command: str, env: Mapping[str, str] | None = None, cwd: Path | None = None
    ) -> Process:
        """Start any command."""
        process = Process(name, command, env=env, cwd=cwd)
        self.started.append(process)
        return process

    def broker(
        self, database_url: str, *args: str, port: int = 0, env: Mapping[str, str] | None = None
    ) -> RunningBroker:
        """Start `python -m hyrex_broker` and wait until it is ready; more flags in `args`."""
        name = f"broker-{len(self.started)}"
        command = [sys.executable, "-m", "hyrex_broker", "--listen", f"127.0.0.1:{port}", *args]
        process = self.start(name, *command, env={"HYREX_DATABASE_URL": database_url} | dict(env or {}))
        ready = process.wait_for(r"broker ready: listening on (\S+:\d+)")
        return RunningBroker(process, ready[1])

    def gateway(
        self, cells: str, *args: str, port: int = 0, env: Mapping[str, str] | None = None
    ) -> RunningBroker:
        """Start `python -m hyrex_broker.gateway` and wait until it is ready; more flags in `args`."""
        name = f"gateway-{len(self.started)}"
        command = [sys.executable, "-m", "hyrex_broker.gateway", "--listen", f"127.0.0.1:{port}", *args]
        process = self.start(name, *command, env={"HYREX_CELLS": cells} | dict(env or {}))
        ready = process.wait_for(r"gateway ready: listening on (\S+:\d+)")
        return RunningBroker(process, ready[1])

    def worker(
        self,
        broker_url: str,
        target: str,
        *args: str,
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
    ) -> Process:
        """Start `python -m hyrex.worker TARGET` and wait until it is ready; more flags in `args`."""
        name = f"worker-{len(self.started)}"
        command = [sys.executable, "-m", "hyrex.worker", target, *args]
        process = self.start(name, *command, env={"HYREX_BROKER_URL": broker_url} | dict(env or {}), cwd=cwd)
        process.wait_for(r"worker ready: ")
        return process

    def end(self) -> None:
        """Kill everything that was started, with its process group."""
        for process in reversed(self.started):
            process.end_group()


class StartBroker(Protocol):
    """Type of the fixture start_broker."""

    def __call__(
        self, *args: str, database_url: str | None = None, port: int = 0, env: Mapping[str, str] | None = None
    ) -> RunningBroker: ...


class StartWorker(Protocol):
    """Type of the fixture start_worker."""

    def __call__(
        self,
        target: str,
        *args: str,
        broker_url: str | None = None,
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
    ) -> Process: ...


@pytest.fixture
def processes(request: pytest.FixtureRequest) -> Iterator[Processes]:
    """Starts any process for one test."""
    owner = Processes()
    request.node.stash[_STARTED] = owner.started
    yield owner
    owner.end()


@pytest.fixture
def start_broker(processes: Processes, database_url: str) -> StartBroker:
    """Starts brokers, on the test's database unless another one is named."""

    def start(
        *args: str,
        database_url: str | None = database_url,
        port: int = 0,
        env: Mapping[str, str] | None = None,
    ) -> RunningBroker:
        assert database_url is not None
        return processes.broker(database_url, *args, port=port, env=env)

    return start


@pytest.fixture
def broker(start_broker: StartBroker) -> RunningBroker:
    """One broker on the test's database."""
    return start_broker()


@pytest.fixture
def start_worker(processes: Processes, request: pytest.FixtureRequest) -> StartWorker:
    """Starts workers, at the fixture `broker` unless another URL is named."""

    def start(
        target: str,
        *args: str,
        broker_url: str | None = None,
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
    ) -> Process:
        url = broker_url or request.getfixturevalue("broker").url
        return processes.worker(url, target, *args, env=env, cwd=cwd)

    return start


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[Any]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Add the output of the test's processes to the report of its failure."""
    report = yield
    if report.failed:
        for process in item.stash.get(_STARTED, []):
            report.sections.append((f"output of {process.name} (pid {process.pid})", process.output))
    return report
