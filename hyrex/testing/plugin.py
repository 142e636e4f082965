"""Fixtures for pytest, which finds them wherever Hyrex is installed.

Every run of pytest loads this module, so it imports nothing of Hyrex until a fixture is used.
"""

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from hyrex.testing.inplace import InlineTasks
    from hyrex.testing.live import LiveBroker, LiveHyrex

__all__ = ["hyrex_inline", "hyrex_live", "hyrex_live_broker"]


@pytest.fixture
def hyrex_inline() -> "Iterator[InlineTasks]":
    """Tasks run where they are sent, see hyrex.testing.inline()."""
    from hyrex.testing.inplace import inline

    with inline() as tasks:
        yield tasks


@pytest.fixture(scope="session")
def hyrex_live_broker(tmp_path_factory: pytest.TempPathFactory) -> "Iterator[LiveBroker]":
    """A real broker for the whole session, on a private Postgres or HYREX_TEST_DATABASE_URL."""
    from hyrex.testing.live import live_broker

    with live_broker(tmp_path_factory.mktemp("hyrex")) as broker:
        yield broker


@pytest.fixture
def hyrex_live(hyrex_live_broker: "LiveBroker", monkeypatch: pytest.MonkeyPatch) -> "Iterator[LiveHyrex]":
    """A real broker that this process sends to; `start_worker("module:app")` runs the tasks."""
    from hyrex.testing.live import live_hyrex

    monkeypatch.setenv("HYREX_BROKER_URL", hyrex_live_broker.url)
    for name in ("HYREX_CELLS", "HYREX_TOKEN", "HYREX_TOKEN_FILE"):
        monkeypatch.delenv(name, raising=False)  # of another Hyrex, perhaps of production
    with live_hyrex(hyrex_live_broker) as live:
        yield live
