"""Partitions come and go without holding up a submit, and never while a live row has an id in range."""

import asyncio
import time
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from hyrex_broker.domain.model import Outcome, TaskExtras
from hyrex_broker.domain.states import TaskState
from hyrex_broker.storage import partitions
from hyrex_broker.storage.reads import FULL, TaskReads
from hyrex_broker.storage.retention import RetentionStore
from tests.integration.storage.old_days import old_day, tables_of
from tests.integration.storage.stage import Stage, make_id, new_task
from tests.integration.storage.waits import until_blocked
from tests.support.postgres import connect

pytestmark = pytest.mark.own_database
_DAY = timedelta(days=1)
KEEP = timedelta(days=7)


async def days(connection: Any) -> list[str]:
    rows = await connection.fetch(
        "select relname from pg_class join pg_inherits on oid = inhrelid"
        " where inhparent = 'task'::regclass order by 1"
    )
    return [row[0] for row in rows]


async def test_partitions_reach_from_the_day_before_yesterday_to_three_days_ahead(connection: Any) -> None:
    today = partitions.day_of(datetime.now(UTC))
    expected = [f"task_{today + offset * _DAY:%Y%m%d}" for offset in range(-2, 4)]
    assert await days(connection) == expected


async def test_a_new_partition_does_not_wait_for_open_submits(stage: Stage, connection: Any) -> None:
    """Rule 12: ATTACH takes a lock that a submit under way does not refuse; CREATE would wait for it."""
    blocker = await connect(stage.database.url)
    try:
        async with blocker.transaction():
            task = new_task()
            await blocker.execute(
                "insert into task (id, lane, rank, max_retries, digest, payload)"
                " values ($1, $2, 5, 0, 0, '')",
                task.task_id,
                await stage.lane(),
            )
            await old_day(connection)
    finally:
        await blocker.close()


@pytest.mark.alone
async def test_submits_go_on_while_a_partition_is_attached(stage: Stage, connection: Any) -> None:
    day = partitions.day_of(datetime.now(UTC)) - 30 * _DAY
    lower, upper = partitions.lower_bound(day), partitions.lower_bound(day + _DAY)
    await stage.lane()
    async with connection.transaction():
        await connection.execute("create table task_attached (like task including all)")
        await connection.execute(
            f"alter table task attach partition task_attached for values from ('{lower}') to ('{upper}')"
        )
        began = time.monotonic()
        await stage.submitted(10)
        assert time.monotonic() - began < 1


async def test_a_day_is_past_its_term_only_by_both_clocks(
    connection: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If the database's clock runs ahead, tasks of this hour are stored in what is long ago for it."""
    day, _ = await old_day(connection)
    assert await partitions.past(connection, KEEP) == [day]

    class Behind(datetime):
        @classmethod
        def now(cls, tz: Any = None) -> datetime:  # type: ignore[override]
            return datetime.now(tz) - 20 * _DAY

    monkeypatch.setattr(partitions, "datetime", Behind)
    assert await partitions.past(connection, KEEP) == []


async def test_an_expired_day_is_dropped_with_its_keys(stage: Stage, connection: Any) -> None:
    day, moment = await old_day(connection)
    task = new_task(make_id(moment), key="k")
    await stage.submit(task)
    (run,) = await stage.assign(await stage.session())
    await stage.end(run, Outcome.FAILED)
    await stage.execute("insert into reopen values ($1, 0, now() - interval '1 hour')", task.task_id)
    await RetentionStore(stage.database.url).maintain(KEEP)
    assert f"task_{day:%Y%m%d}" not in await days(connection)
    for table in ("task", "task_run", "idempotency", "reopen"):
        assert await connection.fetchval(f"select count(*) from {table}") == 0


async def test_a_day_keeps_its_keys_for_as_long_as_its_tasks(
    stage: Stage, connection: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever stops the removal: a task that is there may come to life, and is still found by its key."""
    monkeypatch.setattr(partitions, "FORGET_CHUNK", 2)
    _, moment = await old_day(connection)
    keyed = [new_task(make_id(moment), key=f"k{n}") for n in range(5)]
    await stage.submit(*keyed)
    await stage.execute("delete from ready")
    kept = "select (select count(*) from task), (select count(*) from idempotency)"
    holder = await connect(stage.database.url)
    try:
        async with holder.transaction():
            await holder.execute("lock table task_run in share update exclusive mode")
            await RetentionStore(stage.database.url).maintain(KEEP)
    finally:
        await holder.close()
    assert tuple(await connection.fetchrow(kept)) == (5, 5)
    await RetentionStore(stage.database.url).maintain(KEEP)
    assert tuple(await connection.fetchrow(kept)) == (0, 0)


async def test_an_older_day_that_still_lives_keeps_its_keys(stage: Stage, connection: Any) -> None:
    _, kept = await old_day(connection, ago=25)
    await stage.submit(new_task(make_id(kept), key="kept"))
    day, moment = await old_day(connection)
    await stage.submit(new_task(make_id(moment), key="gone"))
    await stage.execute("delete from ready where task_id >= $1", partitions.lower_bound(day))
    await RetentionStore(stage.database.url).maintain(KEEP)
    assert [row[0] for row in await connection.fetch("select key from idempotency")] == ["kept"]


async def test_a_day_that_lives_again_when_it_is_to_be_dropped_is_kept(stage: Stage, connection: Any) -> None:
    day, moment = await old_day(connection)
    (task_id,) = await stage.submit(new_task(make_id(moment)))
    await partitions.drop(connection, day)
    assert await connection.fetchval("select id::text from task") == task_id


@pytest.mark.parametrize("place", ["ready", "delayed", "lease"])
async def test_a_day_with_a_live_task_is_kept(stage: Stage, connection: Any, place: str) -> None:
    day, moment = await old_day(connection)
    extras = TaskExtras(delay_ms=60_000) if place == "delayed" else None
    await stage.submit(new_task(make_id(moment), extras=extras))
    if place == "lease":
        await stage.assign(await stage.session())
    await RetentionStore(stage.database.url).maintain(KEEP)
    assert len(await tables_of(connection, day)) == 2
    await stage.execute(f"delete from {place}")
    await RetentionStore(stage.database.url).maintain(KEEP)
    assert await tables_of(connection, day) == []


async def test_dropping_gives_way_to_readers_and_is_finished_later(stage: Stage, connection: Any) -> None:
    """A detach that had to stop half-way is found again and finished."""
    day, moment = await old_day(connection)
    await stage.submit(new_task(make_id(moment)))
    await stage.execute("delete from ready")
    reader = await connect(stage.database.url)
    try:
        async with reader.transaction():
            await reader.fetchval("select count(*) from task")
            await RetentionStore(stage.database.url).maintain(KEEP)
            await stage.submitted(3)  # one that waited for the reader would not be answered in time
    finally:
        await reader.close()
    await RetentionStore(stage.database.url).maintain(KEEP)
    assert f"task_{day:%Y%m%d}" not in await days(connection)


async def test_a_detach_that_is_pending_is_finished_before_another_begins(
    stage: Stage, connection: Any
) -> None:
    """Postgres refuses a second one; an older day may expire later, when its last task has ended."""
    newer, _ = await old_day(connection)
    reader = await connect(stage.database.url)
    try:
        async with reader.transaction():
            await reader.fetchval("select count(*) from task, task_run")
            await RetentionStore(stage.database.url).maintain(KEEP)
    finally:
        await reader.close()
    older, _ = await old_day(connection, ago=25)
    await RetentionStore(stage.database.url).maintain(KEEP)
    assert await tables_of(connection, newer) == []
    assert await tables_of(connection, older) == []


@pytest.mark.parametrize("detached", [["task_run"], ["task_run", "task"]], ids=["runs", "runs and tasks"])
async def test_a_drop_that_was_interrupted_after_a_detach_goes_on(
    stage: Stage, connection: Any, detached: list[str]
) -> None:
    """Its tables are partitions no more, and are still found and dropped."""
    day, _ = await old_day(connection)
    for parent in detached:
        name = f"{parent}_{day:%Y%m%d}"
        await connection.execute(f"alter table {parent} detach partition {name} concurrently")
    await RetentionStore(stage.database.url).maintain(KEEP)
    assert await tables_of(connection, day) == []


async def test_a_lock_that_is_not_had_in_time_leaves_the_day_as_it_was(stage: Stage, connection: Any) -> None:
    """Nothing is finished that has not begun: the next round begins anew."""
    day, _ = await old_day(connection)
    holder = await connect(stage.database.url)
    try:
        async with holder.transaction():
            await holder.execute("lock table task_run in share update exclusive mode")
            maintaining = asyncio.ensure_future(RetentionStore(stage.database.url).maintain(KEEP))
            await until_blocked(connection)
            await until_detached_no_more(connection)
        await maintaining
    finally:
        await holder.close()
    assert f"task_{day:%Y%m%d}" in await days(connection)
    await RetentionStore(stage.database.url).maintain(KEEP)
    assert await tables_of(connection, day) == []


async def until_detached_no_more(connection: Any) -> None:
    """Wait until no detach waits for its lock any more."""
    async with asyncio.timeout(60):
        while await connection.fetchval(
            "select count(*) from pg_stat_activity where datname = current_database()"
            " and wait_event_type = 'Lock' and query like '%detach partition % concurrently'"
        ):
            await asyncio.sleep(0.005)


async def test_tables_of_others_are_left_alone(stage: Stage, connection: Any) -> None:
    kept = ["task_99999999", "task_log_20200101", "mytask_20200101"]
    for name in kept:
        await connection.execute(f"create table {name} (id integer)")
    await RetentionStore(stage.database.url).maintain(KEEP)
    for name in kept:
        assert await connection.fetchval("select to_regclass($1)::text", name) == name


async def test_only_one_broker_maintains_at_a_time(stage: Stage) -> None:
    stores = [RetentionStore(stage.database.url) for _ in range(4)]
    await asyncio.gather(*(store.maintain(KEEP) for store in stores))


async def test_brokers_of_long_ago_are_forgotten_unless_they_own_a_session(
    stage: Stage, connection: Any
) -> None:
    gone, owner = [
        await connection.fetchval(
            "insert into broker (name, address, version, seen_at)"
            " values ($1, '', '1', now() - interval '30 days') returning id",
            name,
        )
        for name in ("gone", "owner")
    ]
    opened = await stage.session()
    await connection.execute("update worker_session set owner = $1 where id = $2", owner, opened.session_id)
    await RetentionStore(stage.database.url).maintain(KEEP)
    left = {row[0] for row in await connection.fetch("select id from broker")}
    assert left == {owner, stage.broker}
    assert gone not in left


async def test_a_task_of_long_ago_is_assigned_reported_and_read_like_any_other(
    stage: Stage, connection: Any
) -> None:
    _, moment = await old_day(connection)
    (task_id,) = await stage.submit(new_task(make_id(moment), payload=b"[7]", max_retries=1))
    (young_id,) = await stage.submit(new_task(payload=b"[8]"))
    runs = await stage.assign(await stage.session(), 2)
    assert {run.task_id: run.payload for run in runs} == {task_id: b"[7]", young_id: b"[8]"}
    for run in runs:
        await stage.end(run, Outcome.FAILED, retryable=True)
    views = await TaskReads(stage.database).tasks([young_id, task_id], FULL)
    assert [(view.task_id, view.state) for view in views] == [
        (task_id, TaskState.RETRYING),
        (young_id, TaskState.FAILED),
    ]
    assert await stage.cancels.cancel([task_id], "enough")
    assert [each.task_id for each in await stage.cancels.retry([young_id, task_id])] == [task_id, young_id]
