"""A migrated database, the broker's connections to it, and a hand that writes rows."""

from collections.abc import AsyncIterator

import pytest

from hyrex_broker.storage.pool import Database
from tests.integration.service.seeding import Seed
from tests.integration.service.stubs import Stubs, serving


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
