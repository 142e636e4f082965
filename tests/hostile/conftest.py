"""One broker with a token for all attacks, and brokers of one's own for those that need other settings."""

import os
from collections.abc import Iterator

import pytest

from tests.hostile.victim import TOKEN, Victim
from tests.integration.storage.conftest import execute
from tests.support.postgres import run_apart, with_database
from tests.support.processes import Processes


@pytest.fixture(scope="session")
def attacked_url(postgres_url: str, template_database: str) -> Iterator[str]:
    """The database of all attacks."""
    name = f"hyrex_hostile_{os.getpid()}"
    run_apart(execute(postgres_url, f'create database "{name}" template "{template_database}"'))
    yield with_database(postgres_url, name)
    run_apart(execute(postgres_url, f'drop database "{name}" with (force)'))


@pytest.fixture(scope="session")
def victim(attacked_url: str) -> Iterator[Victim]:
    """A broker that all attacks of the folder are made on, one after the other."""
    owner = Processes()
    yield Victim(owner, owner.broker(attacked_url, env={"HYREX_TOKEN": TOKEN}))
    owner.end()
