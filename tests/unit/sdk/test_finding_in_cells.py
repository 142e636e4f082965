"""What is said of a task that no cell is known to have, and how long a task's cell is remembered."""

import asyncio
from collections.abc import Iterator
from uuid import uuid4

import pytest

from hyrex import BrokerUnavailable, get_task, get_task_async
from hyrex.client import close_client
from hyrex.client.homes import Homes


@pytest.fixture
def nobody(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Two cells, where nobody listens."""
    monkeypatch.setenv("HYREX_CELLS", "video*=grpc://127.0.0.1:1;*=grpc://127.0.0.1:2")
    monkeypatch.setenv("HYREX_SEND_TIMEOUT", "0.3")
    monkeypatch.delenv("HYREX_TOKEN", raising=False)
    yield
    close_client()


@pytest.mark.parametrize("is_async", [False, True], ids=["sync", "async"])
def test_every_silent_cell_is_named(nobody: None, is_async: bool) -> None:
    with pytest.raises(BrokerUnavailable, match=r"^cell 'video\*': no answer .*; cell '\*': no answer "):
        asyncio.run(get_task_async(uuid4())) if is_async else get_task(uuid4())


def test_a_signal_handler_is_told_of_every_silent_cell(nobody: None) -> None:
    """Its thread may hold what the clients' threads need, so it asks one cell after the other."""
    from hyrex.client import process
    from hyrex.client.cells import CellsBackend

    backend = process.current_backend()
    assert isinstance(backend, CellsBackend)
    with backend._clients[0]._inside, pytest.raises(BrokerUnavailable, match=r"'video\*'.*; cell '\*': "):
        get_task(uuid4())


def test_a_task_is_forgotten_whatever_its_generation() -> None:
    homes = Homes(generation=2)
    for number in range(3):
        homes.remember([bytes([number])], "a")
    homes.forget([bytes([0]), bytes([2])])
    assert [homes.of(bytes([number])) for number in range(3)] == [None, "a", None]
