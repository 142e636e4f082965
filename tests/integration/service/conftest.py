"""A migrated database, the broker's connections to it, and a hand that writes rows."""

import itertools
import os
from collections.abc import AsyncIterator, Iterator
from typing import Final

import pytest

from hyrex_broker.storage.pool import Database
from tests.integration.service.seeding import Seed
from tests.integration.service.stubs import ROOT, Stubs, serving
from tests.integration.storage.conftest import empty
from tests.support.postgres import copied_database

_numbers: Final = itertools.count(1)


@pytest.fixture(scope="module")
def shared_url(postgres_url: str, template_database: str) -> Iterator[str]:
    """A migrated database for all tests of a file."""
    name = f"hyrex_shared_{os.getpid()}_{next(_numbers)}"
    with copied_database(postgres_url, template_database, name) as url:
        yield url


@pytest.fixture(scope="session")
def emptied_url(postgres_url: str, template_database: str) -> Iterator[str]:
    """A migrated database for all tests that start no process; making one costs more than most of them."""
    with copied_database(postgres_url, template_database, f"hyrex_emptied_{os.getpid()}") as url:
        yield url


@pytest.fixture
def database_url(request: pytest.FixtureRequest, postgres_url: str, template_database: str) -> Iterator[str]:
    """A database of the test's own where it starts processes; else one that has been emptied."""
    if "processes" in request.fixturenames:
        name = f"hyrex_own_{os.getpid()}_{next(_numbers)}"
        with copied_database(postgres_url, template_database, name) as url:
            yield url
    else:
        url = request.getfixturevalue("emptied_url")
        empty(url)
        yield url


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    database = Database(database_url, hot_connections=2, read_connections=2)
    await database.open()
    try:
        yield database
    finally:
        await database.close()


@pytest.fixture
async def seed(database_url: str) -> AsyncIterator[Seed]:
    async with Seed.connected(database_url) as seed:
        yield seed


@pytest.fixture
async def stubs(database: Database, database_url: str) -> AsyncIterator[Stubs]:
    async with serving(database, database_url) as stubs:
        yield stubs


@pytest.fixture
async def guarded(database: Database, database_url: str) -> AsyncIterator[Stubs]:
    """All services, for callers with tokens only."""
    async with serving(database, database_url, ROOT) as stubs:
        yield stubs
