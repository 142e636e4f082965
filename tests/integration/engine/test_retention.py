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


async def test_slots_of_schedules_that_are_gone_are_forgotten_when_nobody_can_fill_them_again(
    database_url: str,
) -> None:
    """Names that come and go, as with one schedule for each customer, leave nothing for ever; those of
    schedules that are there, or were a week ago, stay."""
    store, week = RetentionStore(database_url), timedelta(days=7)
    connection = await connect(database_url)

    async def left_after(days: int) -> list[tuple[str, bool]]:
        await connection.execute(
            "update forgotten_slots set left_at = now() - $1::integer * interval '1 day'"
            " where left_at is not null",
            days,
        )
        await store.maintain(week)
        found = await connection.fetch("select schedule, left_at is not null from forgotten_slots order by 1")
        return [tuple(row) for row in found]

    try:
        for name in ("back", "gone", "there"):
            await connection.execute(_OLD_SLOT, name)
        await connection.execute(_SCHEDULE, "there")
        assert await left_after(0) == [("back", True), ("gone", True), ("there", False)]
        assert await left_after(6) == [("back", True), ("gone", True), ("there", False)]
        await connection.execute(_SCHEDULE, "back")
        await connection.execute(_OLD_SLOT, "gone")
        assert await left_after(8) == [("back", False), ("gone", True), ("there", False)], "its last slot"
        assert await left_after(8) == [("back", False), ("there", False)]
        await connection.execute("delete from schedule")
        assert await left_after(8) == [("back", True), ("there", True)]
    finally:
        await connection.close()


_OLD_SLOT = """
insert into schedule_slot (namespace, schedule, slot, task_id, cause, stored_at)
values (0, $1, clock_timestamp(), gen_random_uuid(), 'due', now() - interval '8 days')
"""
_SCHEDULE = """
insert into schedule (namespace, name, task, queue, cron, tz, payload, options, catchup, jitter_s, source,
                      next_at, due_at)
values (0, $1, 'work', 'default', '0 0 * * *', 'UTC', '', '{}', 'latest', 0, 'operator', now(), now())
"""
