"""Fixtures of the SDK's tests."""

from datetime import datetime

import pytest

from hyrex import TaskHandle
from tests.support.scripted_tasks import Server, server, tasks
from tests.unit.sdk.parsed_tasks import parse

__all__ = ["handle", "server", "tasks"]


@pytest.fixture
def handle(server: Server) -> TaskHandle[list[datetime]]:
    """The handle of a task that was sent to the server."""
    return parse.send("x")
