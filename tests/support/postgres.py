"""A real Postgres for tests: one server per session, one database per test.

Each database is a copy of a template that was migrated once, so a test pays some ten milliseconds.
HYREX_TEST_DATABASE_URL names another server to use (its user must be allowed to create databases).
"""

import asyncio
import itertools
import os
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from typing import Any, Final, TypeVar
from urllib.parse import urlsplit, urlunsplit

import asyncpg
import pytest

from hyrex_broker.embedded import EmbeddedPostgres

T = TypeVar("T")
TEMPLATE = f"hyrex_template_{os.getpid()}"
STATEMENT_WITHIN_S: Final = 60.0
_numbers = itertools.count(1)


def run_apart(work: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine on a loop of its own, leaving the current thread's loop settings alone."""
    loop = asyncio.new_event_loop()
    try:
        return loop.run_until_complete(work)
    finally:
        loop.close()


def with_database(server_url: str, database: str) -> str:
    """The same server's URL for another database."""
    return urlunsplit(urlsplit(server_url)._replace(path=f"/{database}"))


def migrate_now(url: str) -> None:
    """Bring a database to the newest schema. The tests' own connections to this server see that schema too;
    a broker's set their search_path themselves."""
    from hyrex_broker.storage.migrate import migrate  # here, so that tests without a database do not load it

    run_apart(migrate(url))
    run_apart(_execute(url, "alter role current_user set search_path = hyrex, public"))


async def connect(url: str, **more: Any) -> Any:
    """A connection whose statements all end: one that waits for a lock for ever hangs a test and its end."""
    return await asyncpg.connect(url, command_timeout=STATEMENT_WITHIN_S, **more)


async def _execute(url: str, *statements: str) -> None:
    connection = await connect(url)
    try:
        for statement in statements:
            await connection.execute(statement)
    finally:
        await connection.close()


@pytest.fixture(scope="session")
def postgres_url() -> Iterator[str]:
    """URL of a server shared by the whole session. Its databases are yours only by `database_url`."""
    given = os.environ.get("HYREX_TEST_DATABASE_URL")
    if given:
        yield given
        return
    with EmbeddedPostgres(durable=False) as server:
        yield server.url


@pytest.fixture(scope="session")
def template_database(postgres_url: str) -> Iterator[str]:
    """Name of a migrated database to copy from; nobody connects to it."""
    run_apart(_execute(postgres_url, f'CREATE DATABASE "{TEMPLATE}"'))
    migrate_now(with_database(postgres_url, TEMPLATE))
    yield TEMPLATE
    run_apart(_execute(postgres_url, f'DROP DATABASE "{TEMPLATE}" WITH (FORCE)'))


@contextmanager
def copied_database(postgres_url: str, template: str, name: str) -> Iterator[str]:
    """URL of a fresh, migrated database of this name, as long as it is needed.

    Its files are copied: by Postgres's own choice every page of them would be written to the log as well.
    """
    made = f'CREATE DATABASE "{name}" TEMPLATE "{template}" STRATEGY file_copy'
    run_apart(_execute(postgres_url, made))
    yield with_database(postgres_url, name)
    run_apart(_execute(postgres_url, f'DROP DATABASE "{name}" WITH (FORCE)'))


@pytest.fixture
def database_url(postgres_url: str, template_database: str) -> Iterator[str]:
    """URL of a fresh, migrated database that exists for one test."""
    name = f"hyrex_test_{os.getpid()}_{next(_numbers)}"
    with copied_database(postgres_url, template_database, name) as url:
        yield url


@pytest.fixture
def empty_database_url(postgres_url: str) -> Iterator[str]:
    """URL of a fresh database without any table, for one test."""
    name = f"hyrex_empty_{os.getpid()}_{next(_numbers)}"
    run_apart(_execute(postgres_url, f'CREATE DATABASE "{name}"'))
    yield with_database(postgres_url, name)
    run_apart(_execute(postgres_url, f'DROP DATABASE "{name}" WITH (FORCE)'))


@pytest.fixture
def private_postgres() -> Iterator[EmbeddedPostgres]:
    """A durable, migrated server for one test, which may kill and restart it."""
    with EmbeddedPostgres() as server:
        migrate_now(server.url)
        yield server
