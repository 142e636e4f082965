"""Two brokers' storage on one database, and a bare connection beside them."""

import itertools
import os
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from tests.integration.storage.stage import Stage
from tests.support.postgres import connect, copied_database, run_apart

_numbers = itertools.count(1)
EMPTY = (
    "ready", "delayed", "lease", "task_run", "task", "reopen", "dismissal", "idempotency",
    "worker_session", "broker",
    "lane", "queue", "concurrency_limit", "task_definition", "low_water_mark", "bulk_operation", "schedule",
    "schedule_slot", "outbox", "carried",
    "expiry", "debounce", "forgotten_slots", "rate_use", "blocked", "seat",
    "used_feature", "audit", "compaction", "run_progress", "stat", "stat_5min", "token",
)  # fmt: skip
FILLED_BY_THE_SCHEMA = ("namespace", "schema_version", "shared_secret", "stripe")


@pytest.fixture(scope="session")
def shared_url(postgres_url: str, template_database: str) -> Iterator[str]:
    """A database for many tests; making one costs more than most of them."""
    name = f"hyrex_storage_{os.getpid()}_{next(_numbers)}"
    with copied_database(postgres_url, template_database, name) as url:
        yield url


@pytest.fixture
def storage_url(request: pytest.FixtureRequest) -> str:
    """The shared database, emptied; one of its own for a test that is marked so."""
    if request.node.get_closest_marker("own_database") is not None:
        return str(request.getfixturevalue("database_url"))
    url: str = request.getfixturevalue("shared_url")
    empty(url)
    return url


@pytest.fixture
async def stage(storage_url: str) -> AsyncIterator[Stage]:
    async with Stage.on(storage_url) as stage:
        yield stage


@pytest.fixture
async def rival(storage_url: str) -> AsyncIterator[Stage]:
    """Another broker's storage on the same database."""
    async with Stage.on(storage_url) as rival:
        yield rival


@pytest.fixture
async def connection(storage_url: str) -> AsyncIterator[Any]:
    """A bare connection, to hold locks with."""
    connection = await connect(storage_url)
    try:
        yield connection
    finally:
        await connection.close()


def empty(url: str) -> None:
    """Leave nothing in a database but what the schema itself puts there."""
    run_apart(execute(url, "; ".join(f"delete from {table}" for table in EMPTY)))


async def execute(url: str, *statements: str) -> None:
    """Run statements on a connection of their own."""
    connection = await connect(url)
    try:
        for statement in statements:
            await connection.execute(statement)
    finally:
        await connection.close()
