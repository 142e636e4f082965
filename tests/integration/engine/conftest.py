"""An engine on an emptied database."""

from collections.abc import AsyncIterator

import pytest

from tests.integration.engine.bench import Bench, running_engine
from tests.integration.storage.conftest import shared_url, storage_url

__all__ = ["shared_url", "storage_url"]


@pytest.fixture
async def bench(storage_url: str) -> AsyncIterator[Bench]:
    async with running_engine(storage_url) as bench:
        yield bench
