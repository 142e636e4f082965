"""Two brokers' storage on one database, and a bare connection beside them."""

from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import pytest

from tests.integration.storage.stage import Stage


@pytest.fixture
async def stage(database_url: str) -> AsyncIterator[Stage]:
    async with Stage.on(database_url) as stage:
        yield stage


@pytest.fixture
async def rival(database_url: str) -> AsyncIterator[Stage]:
    """Another broker's storage on the same database."""
    async with Stage.on(database_url) as rival:
        yield rival


@pytest.fixture
async def connection(database_url: str) -> AsyncIterator[Any]:
    """A bare connection, to hold locks with."""
    connection = await asyncpg.connect(database_url)
    try:
        yield connection
    finally:
        await connection.close()
