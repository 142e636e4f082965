"""A purge cancels what waited when it began, and ends, however much is submitted meanwhile."""

from collections.abc import Callable
from typing import Any

import pytest

from hyrex_broker.domain.model import TaskExtras, TaskId
from hyrex_broker.domain.states import TaskState
from hyrex_broker.storage import purge
from hyrex_broker.storage.pool import Database
from hyrex_broker.storage.purge import Purged
from hyrex_broker.storage.queues import QueueStore
from tests.integration.storage.stage import NewTask, Stage, new_task


def scheduled() -> NewTask:
    return new_task(extras=TaskExtras(delay_ms=60_000))


@pytest.mark.parametrize("make", [new_task, scheduled], ids=["at once", "later"])
async def test_a_purge_ends_though_its_queue_keeps_filling(
    stage: Stage, monkeypatch: pytest.MonkeyPatch, make: Callable[[], NewTask]
) -> None:
    monkeypatch.setattr(purge, "CHUNK", 2)
    before = await stage.submit(*(make() for _ in range(5)))
    purged: list[TaskId] = []
    after: list[TaskId] = []
    store = QueueStore(stage.database)
    async for chunk in store.purge("default", "enough", await store.now()):
        purged += chunk.task_ids
        after += await stage.submit(*(make() for _ in range(3)))
        assert len(purged) <= len(before)
    assert sorted(purged) == sorted(before)
    for task_id in after:
        assert await stage.state(task_id) in (TaskState.QUEUED, TaskState.SCHEDULED)


@pytest.mark.parametrize(
    ("table", "at", "index"),
    [("ready", "submitted_at", "ready_by_turn"), ("delayed", "now() + interval '1 day'", "delayed_by_lane")],
)
async def test_a_chunk_of_a_purge_does_not_pass_again_what_those_before_it_have_deleted(
    storage_url: str, connection: Any, monkeypatch: pytest.MonkeyPatch, table: str, at: str, index: str
) -> None:
    """While a transaction is held open, deleted rows stay in the way of whoever begins at the beginning."""
    monkeypatch.setattr(purge, "CHUNK", 100)
    await connection.execute(
        "insert into lane (namespace, queue, name, limited)"
        " select 0, 'full', 'work-' || n, false from generate_series(1, 3) n"
    )
    await connection.execute(
        "insert into task (id, lane, rank, max_retries, digest, payload, submitted_at)"
        " select (lpad(to_hex((extract(epoch from now()) * 1000)::bigint), 12, '0') || '7000'"
        "         || '8000' || lpad(to_hex(n), 12, '0'))::uuid,"
        "        lane.id, n % 2, 0, 0, '', now() - interval '1 minute' - n * interval '1 ms'"
        " from generate_series(1, 3000) n,"
        "      lateral (select id from lane order by id offset n % 3 limit 1) lane"
    )
    await connection.execute(f"insert into {table} select id, lane, rank, {at}, 0, 0, 0, 0, false from task")
    database = Database(storage_url, hot_connections=1, read_connections=1)
    await database.open()
    try:
        await connection.execute("begin isolation level repeatable read")
        await connection.fetchval("select count(*) from task")
        store, purged, before = QueueStore(database), 0, await entries_read(database, index)
        async for chunk in store.purge("full", "enough", await store.now()):
            purged += len(chunk.task_ids)
        read = await entries_read(database, index) - before
    finally:
        await connection.execute("rollback")
        await database.close()
    assert purged == 3000
    assert read < 3 * purged


async def entries_read(database: Database, index: str) -> int:
    """Entries of an index that were read so far, dead ones included."""
    await database.fetch("select pg_stat_force_next_flush()")
    (row,) = await database.fetch(
        "select idx_tup_read from pg_stat_user_indexes where indexrelname = $1 and schemaname = 'hyrex'",
        index,
    )
    return int(row["idx_tup_read"])


async def test_a_purge_takes_delayed_tasks_that_are_not_stored(stage: Stage) -> None:
    """When they were submitted is unknown, which counted as later."""
    (task_id,) = await stage.submit(scheduled())
    await stage.execute("delete from task where id = $1", task_id)
    store = QueueStore(stage.database)
    assert [chunk async for chunk in store.purge("default", "enough", await store.now())] == [
        Purged([task_id], [], [])
    ]
    assert await stage.state(task_id) is TaskState.CANCELLED
