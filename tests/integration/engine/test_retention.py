"""Retention of a running broker: what fails in one round is done in a later one."""

import asyncio
import logging
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from hyrex_broker.domain.retention import RetentionTerms
from hyrex_broker.engine.cluster import retention
from hyrex_broker.engine.cluster.retention import Retention
from hyrex_broker.storage import partitions
from hyrex_broker.storage.retention import RetentionStore
from tests.support.loops import end
from tests.support.postgres import connect


async def test_retention_goes_on_after_a_round_that_failed(
    database_url: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(retention, "_INTERVAL_S", 0.02)
    monkeypatch.setattr(retention, "_RETRY_S", 0.02)
    caplog.set_level(logging.WARNING)
    day = partitions.day_of(datetime.now(UTC)) - timedelta(days=20)
    connection = await connect(database_url)
    try:
        for parent, _ in partitions.PARENTS:
            await partitions._ensure_one(connection, parent, day)
        await connection.execute("alter view live rename to out_of_reach")
        terms = RetentionTerms(timedelta(days=7), timedelta(days=7))
        running = asyncio.ensure_future(Retention(RetentionStore(database_url), terms).run())
        try:
            await until(lambda: bool(caplog.records))
            await connection.execute("alter view out_of_reach rename to live")
            await until_gone(connection, f"task_{day:%Y%m%d}")
            assert not running.done()
        finally:
            await end(running)
    finally:
        await connection.close()
    (told,) = caplog.records
    assert told.message == "retention will try again"
    assert "42P01" in vars(told)["error"]


async def until_gone(connection: Any, table: str) -> None:
    async with asyncio.timeout(60):
        while await connection.fetchval("select to_regclass($1)::text", table) is not None:
            await asyncio.sleep(0.01)


async def until(said: Callable[[], bool]) -> None:
    async with asyncio.timeout(60):
        while not said():
            await asyncio.sleep(0.01)


async def test_tokens_and_the_audit_are_forgotten_when_their_time_is_over(database_url: str) -> None:
    """Entries by whole days; a token that neither expired nor was revoked stays."""
    connection = await connect(database_url)
    try:
        for name, expires, revoked in (("lasts", None, None), ("expired", 31, None), ("revoked", None, 31)):
            await connection.execute(
                "insert into token (name, hash, ending, scopes, queue_patterns, expires_at, revoked_at)"
                " values ($1, sha256(convert_to($1, 'UTF8')), '', '{read}', '{*}',"
                " now() - $2::integer * interval '1 day', now() - $3::integer * interval '1 day')",
                *(name, expires, revoked),
            )
        for days in (0, 89, 92):
            await connection.execute(
                "insert into audit (at, who, action, object, details)"
                " values (now() - $1::integer * interval '1 day', 'w', 'a', $1::integer::text, '{}')",
                days,
            )
        await RetentionStore(database_url).maintain(timedelta(days=7))
        kept = [row[0] for row in await connection.fetch("select name from token")]
        entries = [row[0] for row in await connection.fetch("select object from audit order by at")]
    finally:
        await connection.close()
    assert (kept, entries) == (["lasts"], ["89", "0"])
