"""An engine on an emptied database."""

from collections.abc import AsyncIterator
from typing import Any

import pytest

from tests.integration.engine.bench import Bench, running_engine
from tests.integration.storage.conftest import shared_url, storage_url
from tests.support.postgres import connect

__all__ = ["shared_url", "storage_url"]


@pytest.fixture
async def bench(storage_url: str) -> AsyncIterator[Bench]:
    async with running_engine(storage_url) as bench:
        yield bench


@pytest.fixture
async def caller(storage_url: str) -> AsyncIterator[Any]:
    """A connection of an application, which enqueues."""
    connection = await connect(storage_url)
    yield connection
    await connection.close()


@pytest.fixture
async def second(storage_url: str) -> AsyncIterator[Any]:
    """Another one."""
    connection = await connect(storage_url)
    yield connection
    await connection.close()
