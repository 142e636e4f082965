"""One broker with a token for all attacks, and brokers of one's own for those that need other settings."""

import os
from collections.abc import Iterator

import pytest

from tests.hostile.victim import TOKEN, Victim
from tests.support.postgres import copied_database
from tests.support.processes import Processes


@pytest.fixture(scope="session")
def attacked_url(postgres_url: str, template_database: str) -> Iterator[str]:
    """The database of all attacks."""
    with copied_database(postgres_url, template_database, f"hyrex_hostile_{os.getpid()}") as url:
        yield url


@pytest.fixture(scope="session")
def victim(attacked_url: str) -> Iterator[Victim]:
    """A broker that all attacks of the folder are made on, one after the other."""
    owner = Processes()
    yield Victim(owner, owner.broker(attacked_url, env={"HYREX_TOKEN": TOKEN}))
    owner.end()
