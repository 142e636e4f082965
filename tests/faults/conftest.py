"""A field with processes that end with the test."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from hyrex.client.process import close_client
from tests.faults.field import LONG_LEASE_S, Field
from tests.support.processes import Processes, RunningBroker


@pytest.fixture
def field(processes: Processes, database_url: str, tmp_path: Path) -> Iterator[Field]:
    made = Field(processes, database_url, tmp_path)
    yield made
    close_client()
    processes.end()
    for proxy in made.proxies:
        proxy.close()


@pytest.fixture
def one_broker(field: Field, monkeypatch: pytest.MonkeyPatch) -> RunningBroker:
    """A broker that this process sends to."""
    broker = field.broker()
    monkeypatch.setenv("HYREX_BROKER_URL", broker.url)
    return broker


@pytest.fixture
def lasting_broker(field: Field, monkeypatch: pytest.MonkeyPatch) -> RunningBroker:
    """A broker that this process sends to, with leases that last longer than any disturbance."""
    broker = field.broker(lease_s=LONG_LEASE_S)
    monkeypatch.setenv("HYREX_BROKER_URL", broker.url)
    return broker
