"""One broker and one worker for the whole contract; each test sends its own tasks."""

import os
from collections.abc import Iterator

import pytest

from hyrex.client.process import close_client
from tests.support.postgres import copied_database
from tests.support.process import Process
from tests.support.processes import Processes, RunningBroker

TARGET = "tests.contract.more_tasks:app"


@pytest.fixture(scope="session")
def contract_processes() -> Iterator[Processes]:
    """What the contract's tests share."""
    owner = Processes()
    yield owner
    owner.end()


@pytest.fixture(scope="session")
def contract_database(postgres_url: str, template_database: str) -> Iterator[str]:
    """A database for the whole contract."""
    with copied_database(postgres_url, template_database, f"hyrex_contract_{os.getpid()}") as url:
        yield url


@pytest.fixture(scope="session")
def shared_broker(contract_processes: Processes, contract_database: str) -> RunningBroker:
    """The contract's broker."""
    return contract_processes.broker(contract_database)


@pytest.fixture(scope="session")
def shared_worker(contract_processes: Processes, shared_broker: RunningBroker) -> Process:
    """The contract's worker."""
    return contract_processes.worker(shared_broker.url, TARGET, "-p", "2")


@pytest.fixture
def served(
    shared_broker: RunningBroker, shared_worker: Process, monkeypatch: pytest.MonkeyPatch
) -> Iterator[RunningBroker]:
    """This process sends to the contract's broker, whose worker runs what is sent."""
    monkeypatch.setenv("HYREX_BROKER_URL", shared_broker.url)
    yield shared_broker
    close_client()
