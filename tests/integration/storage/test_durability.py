"""Rule 9: what is acknowledged is on disk, and the start says what a failover may cost."""

import asyncio
import logging
from collections.abc import Sequence
from urllib.parse import urlsplit

import asyncpg
import pytest

from hyrex_broker.domain.errors import StorageUnavailable
from hyrex_broker.domain.model import BrokerId
from hyrex_broker.embedded import EmbeddedPostgres
from hyrex_broker.engine.cluster.notifications import Notifications
from hyrex_broker.engine.cluster.presence import Presence
from hyrex_broker.storage import preflight
from hyrex_broker.storage.brokers import BrokerStore, Channel
from hyrex_broker.storage.pool import Database
from tests.integration.storage.conftest import execute
from tests.support.postgres import connect

SAFE = "failover can lose acknowledged tasks unless replication is synchronous"
OFF = "this server's synchronous_commit is off; the broker sets it on for its own sessions"


async def prefer(url: str, value: str) -> None:
    """Make it the value of new sessions of this database."""
    name = urlsplit(url).path.removeprefix("/")
    await execute(url, f'alter database "{name}" set synchronous_commit = {value}')


@pytest.mark.parametrize(
    ("preferred", "seen"),
    [
        ("off", "on"),
        ("local", "local"),
        ("on", "on"),
        ("remote_write", "remote_write"),
        ("remote_apply",) * 2,
    ],
)
async def test_no_session_of_a_broker_acknowledges_what_a_crash_takes(
    database_url: str, preferred: str, seen: str
) -> None:
    await prefer(database_url, preferred)
    database = Database(database_url, hot_connections=2, read_connections=2)
    await database.open()
    try:
        for read in (False, True):
            async with database.transaction(read=read) as one, database.transaction(read=read) as other:
                for transaction in (one, other):
                    row = await transaction.fetchrow("show synchronous_commit")
                    assert row is not None
                    assert row[0] == seen
    finally:
        await database.close()


@pytest.mark.parametrize(
    ("commits", "said"),
    [("off", [OFF, SAFE]), ("local", [SAFE]), ("on", [SAFE])],
)
async def test_the_start_says_what_a_failover_may_cost(
    database_url: str, caplog: pytest.LogCaptureFixture, commits: str, said: Sequence[str]
) -> None:
    caplog.set_level(logging.INFO, "hyrex_broker")
    await prefer(database_url, commits)
    await preflight.check(database_url)
    assert [record.message for record in caplog.records] == said


async def test_a_server_lost_between_two_steps_of_asyncpg_cannot_be_reached(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Seen in a storm; the moment cannot be hit at will, so what asyncpg raised then is raised here."""

    async def lost(*_: object) -> None:
        raise asyncpg.InternalClientError("cannot switch to state 12; another operation (2) is in progress")

    monkeypatch.setattr(preflight, "_require_sessions", lost)
    with pytest.raises(StorageUnavailable, match="cannot reach Postgres at"):
        await preflight.reach(database_url)


async def test_with_a_synchronous_standby_nothing_need_be_said(
    private_postgres: EmbeddedPostgres, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "hyrex_broker")
    await execute(
        private_postgres.url,
        "alter system set synchronous_standby_names = 'standby'",
        "select pg_reload_conf()",
    )
    async with asyncio.timeout(60):
        while not await _standbys(private_postgres.url):
            await asyncio.sleep(0.01)
    await preflight.check(private_postgres.url)
    assert caplog.records == []


async def test_a_change_of_replication_is_said_once_each_time(
    private_postgres: EmbeddedPostgres, caplog: pytest.LogCaptureFixture
) -> None:
    """A witness does this while brokers run; their sessions stay."""
    database = Database(private_postgres.url, hot_connections=1, read_connections=1)
    await database.open()
    try:
        store = BrokerStore(database)
        # Of no broker: what writes nothing need not wait for a standby, and there is none.
        presence = Presence(
            store, BrokerId(0), Notifications(Channel(database.connector)), watching=lambda: False
        )
        await presence._renew()
        for names, told in (("standby", "synchronous again"), ("", "not synchronous any more")):
            caplog.clear()
            await execute(
                private_postgres.url,
                f"alter system set synchronous_standby_names = '{names}'",
                "select pg_reload_conf()",
            )
            async with asyncio.timeout(60):
                while not caplog.records:
                    await presence._renew()
            await presence._renew()
            (record,) = caplog.records
            assert record.levelno == logging.WARNING
            assert told in record.message
            assert database.availability.synchronous == bool(names)
    finally:
        await database.close()


async def _standbys(url: str) -> str:
    """What a new connection is told."""
    connection = await connect(url)
    try:
        names: str = await connection.fetchval("show synchronous_standby_names")
        return names
    finally:
        await connection.close()
