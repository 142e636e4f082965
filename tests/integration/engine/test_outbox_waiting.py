"""Rows of the outbox that wait: for room in their queue, or for the days of the past to be removed."""

import asyncio
from typing import Any

import pytest

from hyrex_broker.domain.errors import StorageUnavailable
from hyrex_broker.domain.model import TaskId
from hyrex_broker.storage.migrate import admit_others, exclude_others
from tests.integration.engine.bench import Bench, running_engine
from tests.integration.engine.outbox_calls import enqueue, enqueue_many, ids, relay_all, stilled
from tests.integration.engine.stored_rows import rows


async def test_rows_of_a_full_queue_wait_and_keep_nothing_else(bench: Bench, caller: Any) -> None:
    relay = await stilled(bench)
    await _bound(bench, "narrow", 3)
    await relay.relay_next()
    await enqueue_many(caller, 10, "narrow")
    other = await enqueue(caller)
    await relay_all(relay)
    assert other in await ids(bench)
    assert await _counts(bench) == [("default", 1), ("narrow", 3)]
    assert await rows(bench, "select held, count(*) from outbox group by 1") == [("full", 7)]
    await enqueue(caller, queue="narrow")  # it waits behind the others
    await relay_all(relay)
    assert await rows(bench, "select held, count(*) from outbox group by 1") == [("full", 8)]
    async with asyncio.timeout(60):
        for left in (5, 2, 0):
            await bench.database.execute("delete from ready")
            while len(await ids(bench, "outbox")) > left:
                relay._room_due = 0.0
                await relay._relay_full_queues()
                await asyncio.sleep(0.05)  # how much waits is looked at no more often
            assert len(await ids(bench, "outbox")) == left
    assert await _counts(bench) == [("default", 1), ("narrow", 11)]


async def test_another_broker_finds_what_waits_for_room(bench: Bench, caller: Any, storage_url: str) -> None:
    relay = await stilled(bench)
    await _bound(bench, "narrow", 1)
    await relay.relay_next()
    await enqueue_many(caller, 2, "narrow")
    await relay_all(relay)
    await bench.database.execute("delete from ready")
    async with running_engine(storage_url) as other:
        _, link = await other.worker()
        await link.until_runs(1)
    assert await ids(bench, "outbox") == []


async def _bound(bench: Bench, queue: str, most: int) -> None:
    await bench.database.execute(
        "insert into queue (namespace, name, max_waiting) values (0, $1, $2)", queue, most
    )
    await bench.engine.directory.refresh()


async def _counts(bench: Bench) -> list[Any]:
    return await rows(
        bench, "select l.queue, count(*) from task t join lane l on l.id = t.lane group by 1 order by 1"
    )


async def until_relayed(bench: Bench, row_id: str) -> None:
    """The engine's own retention may be removing days, too."""
    async with asyncio.timeout(60):
        while row_id not in await ids(bench):
            await bench.engine.relay.look_below()
            await relay_all(bench.engine.relay)


async def test_a_row_that_waited_longer_than_days_are_kept_gets_its_day_back(
    bench: Bench, caller: Any
) -> None:
    relay = await stilled(bench)
    await relay.relay_next()
    old = "0190a6f0-0000-7000-8000-000000000000"  # of the year 2024
    await enqueue_many(caller, 3)
    await caller.execute(
        "insert into outbox (id, task, payload, options) values ($1, 'work', '{}', '{}')", old
    )
    await until_relayed(bench, old)
    assert len(await ids(bench, "ready", "task_id")) == 4


async def test_a_row_of_long_ago_waits_while_days_are_removed_and_others_do_not(
    bench: Bench, caller: Any, second: Any
) -> None:
    """Its day may have been found empty a moment before, and go with the task that is made of it."""
    relay = await stilled(bench)
    await relay.relay_next()
    old = "0190a6f0-0000-7000-8000-000000000000"
    insert = "insert into outbox (id, task, payload, options) values ($1, 'work', '{}', $2)"
    await second.execute("set search_path = hyrex, pg_temp")
    await exclude_others(second)
    await caller.execute(insert, old, "{}")
    young = await enqueue(caller)
    await relay_all(relay)
    with pytest.raises(StorageUnavailable, match="while days are removed"):
        await bench.engine.cancels.cancel([TaskId(old)], "")
    assert (await ids(bench), await ids(bench, "outbox")) == ([young], [old])
    await admit_others(second)
    await until_relayed(bench, old)
    assert (await ids(bench), await ids(bench, "outbox")) == (sorted([old, young]), [])
