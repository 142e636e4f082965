"""A broker and a worker that are observed."""

from collections.abc import Iterator

import pytest

from hyrex.client.process import close_client
from tests.support.processes import RunningBroker, StartBroker


@pytest.fixture
def observed_broker(start_broker: StartBroker, monkeypatch: pytest.MonkeyPatch) -> Iterator[RunningBroker]:
    """A broker that shows metrics, to which this process sends."""
    broker = start_broker("--metrics", "127.0.0.1:0", "--log-format", "json")
    monkeypatch.setenv("HYREX_BROKER_URL", broker.url)
    yield broker
    close_client()
