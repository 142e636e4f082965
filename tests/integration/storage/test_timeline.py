"""What a server tells of its timeline and its cluster, and what follows where it tells nothing."""

import logging
from collections.abc import AsyncIterator
from typing import Any, Final

import asyncpg
import pytest

from hyrex_broker.domain.errors import StorageUnavailable
from hyrex_broker.storage.timeline import NewestTimeline
from tests.support.postgres import connect

# In the place of Postgres' own functions, which say the same of one server for as long as it lives.
SHADOWS: Final = """
    create schema shadows;
    create function shadows.pg_walfile_name(pg_lsn) returns text language plpgsql as $$ begin
        if current_setting('shadows.state') <> '' then
            raise 'not here' using errcode = current_setting('shadows.state');
        end if;
        return lpad(to_hex(current_setting('shadows.timeline')::int), 8, '0') || repeat('0', 16);
    end $$;
    create function shadows.pg_control_system() returns table (system_identifier bigint) language sql as
        $$ select current_setting('shadows.cluster')::bigint $$;
    set search_path = shadows, pg_catalog;
"""


@pytest.fixture
async def server(storage_url: str) -> AsyncIterator[Any]:
    connection = await connect(storage_url)
    await connection.execute(SHADOWS)
    try:
        yield connection
    finally:
        await connection.execute("drop schema shadows cascade")
        await connection.close()


async def becomes(server: Any, *, timeline: int = 1, cluster: int = 1, state: str = "") -> None:
    """What the server tells from now on."""
    for name, value in (("timeline", timeline), ("cluster", cluster), ("state", state)):
        await server.execute(f"select set_config('shadows.{name}', '{value}', false)")


async def test_a_lower_timeline_of_another_cluster_is_a_new_beginning(server: Any) -> None:
    """An upgrade, or a dump that was restored: not a primary that was replaced."""
    timeline = NewestTimeline()
    await becomes(server, timeline=7)
    await timeline.check(server)
    await becomes(server, timeline=1, cluster=2)
    with pytest.raises(StorageUnavailable, match="reads everything anew"):
        await timeline.check(server)
    assert timeline.is_over.is_set()
    timeline.begin_anew()
    await timeline.check(server)
    await becomes(server, timeline=2, cluster=2)
    with pytest.raises(StorageUnavailable, match="reads everything anew"):
        await timeline.check(server)


async def test_a_lower_timeline_of_the_same_cluster_is_refused_with_the_remedy(server: Any) -> None:
    timeline = NewestTimeline()
    await becomes(server, timeline=7)
    await timeline.check(server)
    await becomes(server, timeline=6)
    with pytest.raises(StorageUnavailable, match=r"if this server was restored, restart the broker"):
        await timeline.check(server)
    assert not timeline.is_over.is_set()


async def test_a_server_itself_tells_both(storage_url: str) -> None:
    timeline = NewestTimeline()
    connection = await connect(storage_url)
    await timeline.check(connection)
    assert (timeline.newest, timeline.cluster is not None) == (1, True)
    await connection.close()


@pytest.mark.parametrize("state", ["0A000", "42501", "55000", "XX000"])
async def test_a_service_that_hides_its_log_is_used_all_the_same(
    server: Any, state: str, caplog: pytest.LogCaptureFixture
) -> None:
    timeline = NewestTimeline()
    await becomes(server, state=state)
    with caplog.at_level(logging.INFO):
        for _ in range(2):
            await timeline.check(server)
    assert [record.getMessage() for record in caplog.records] == ["the server does not tell its timeline"]


async def test_a_server_that_cannot_answer_just_now_is_not_trusted(server: Any) -> None:
    await becomes(server, state="57P03")
    with pytest.raises(asyncpg.CannotConnectNowError):
        await NewestTimeline().check(server)
