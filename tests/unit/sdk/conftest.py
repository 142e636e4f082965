"""Fixtures of the SDK's tests."""

from collections.abc import Iterator
from datetime import datetime

import pytest

from hyrex import TaskHandle
from hyrex.client import close_client
from tests.unit.sdk.parsed_tasks import parse
from tests.unit.sdk.scripted_tasks import ScriptedTasks, Server


@pytest.fixture
def tasks() -> ScriptedTasks:
    """A task service that does what the test says."""
    return ScriptedTasks()


@pytest.fixture
def server(tasks: ScriptedTasks, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    """A server for it, which this process sends to."""
    running = Server(tasks)
    monkeypatch.setenv("HYREX_BROKER_URL", running.url)
    monkeypatch.setenv("HYREX_SEND_TIMEOUT", "30")  # a loaded machine is not what these tests are about
    monkeypatch.delenv("HYREX_TOKEN", raising=False)
    yield running
    close_client()
    tasks.gate.set()
    running.stop()


@pytest.fixture
def handle(server: Server) -> TaskHandle[list[datetime]]:
    """The handle of a task that was sent to the server."""
    return parse.send("x")
