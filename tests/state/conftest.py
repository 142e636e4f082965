"""The machines share one database with the storage tests' fixtures."""

from collections.abc import Iterator

import pytest

from tests.integration.storage.conftest import shared_url, storage_url
from tests.state.world import World, world_on

__all__ = ["shared_url", "storage_url"]


@pytest.fixture
def world(storage_url: str) -> Iterator[World]:
    """Two brokers on an emptied database."""
    with world_on(storage_url) as world:
        yield world
