"""Schedules with much to store: in steps, as far as there is room, and none holds up the others."""

from collections.abc import Awaitable
from datetime import UTC, datetime, timedelta

import pytest

from hyrex_broker.domain.errors import QueueAtMaximum
from hyrex_broker.domain.schedules import CatchUp, Cause
from hyrex_broker.storage import pool
from hyrex_broker.storage.queues import QueueChange, QueueStore
from hyrex_broker.storage.schedules import ScheduleStore
from tests.integration.engine.bench import Bench, running_engine
from tests.integration.engine.scheduled import HOURLY, definition, paused, put_back, slots
from tests.integration.engine.stored_rows import rows
from tests.support.postgres import connect

MIB = 1024 * 1024


async def room_for(bench: Bench, count: int) -> None:
    """Let so many wait in `small`, beside what waits now."""
    await bench.database.execute("delete from ready")
    await QueueStore(bench.database).update("small", QueueChange(max_waiting=count))
    await bench.engine.directory.refresh()
    bench.engine.schedules._places._rooms._rooms.clear()


async def test_missed_slots_of_large_tasks_are_stored_in_steps_and_each_once(bench: Bench) -> None:
    schedules = await paused(bench)
    await schedules.put(definition(cron=HOURLY, catchup=CatchUp.ALL, payload=b"x" * (3 * MIB)))
    await put_back(bench, 4)
    due = await ScheduleStore(bench.database).due(1)
    assert due is not None
    assert due.schedules[0].size_bytes > 3 * MIB
    await schedules._fire(due.schedules, due.now)
    first = await slots(bench)
    assert len(first) == 2  # 6 of 8 MiB
    await schedules.fire_due()
    found = await slots(bench)
    assert found[:2] == first
    assert found[-1] >= due.now.replace(minute=0, second=0, microsecond=0)
    assert await rows(bench, "select count(*) from ready") == [(len(found),)]
    assert len(found) >= 5


async def test_of_missed_slots_as_many_are_stored_as_there_is_room_for(bench: Bench) -> None:
    schedules = await paused(bench)
    await schedules.put(definition(cron=HOURLY, catchup=CatchUp.ALL, queue="small"))
    oldest = await put_back(bench, 5)
    await room_for(bench, 3)
    await schedules.fire_due()
    first = await slots(bench)
    assert len(first) == 3
    assert first[0] == oldest
    assert await rows(bench, "select next_at from schedule") == [(first[-1] + timedelta(hours=1),)]
    await room_for(bench, 10)
    await bench.database.execute("update schedule set due_at = now()")
    await schedules.fire_due()
    found = await slots(bench)
    assert found[:3] == first
    assert len(found) >= 6


async def test_a_backfill_that_is_larger_than_the_room_is_stored_as_far_as_there_is_any(bench: Bench) -> None:
    schedules, store = await paused(bench), ScheduleStore(bench.database)
    await schedules.put(definition(queue="small"))
    seen = await store.find("nightly")
    assert seen is not None
    wanted = [datetime(2026, 1, 1, hour, tzinfo=UTC) for hour in range(5)]

    def stored(lacking: list[datetime]) -> Awaitable[object]:
        return schedules.extra.store(seen.schedule, lacking, Cause.BACKFILL)

    await room_for(bench, 3)
    with pytest.raises(QueueAtMaximum):
        await stored(wanted)
    assert await slots(bench) == wanted[:3]
    await room_for(bench, 3)
    await stored(wanted[3:])
    assert await slots(bench) == wanted


async def test_a_schedule_that_cannot_be_stored_in_time_holds_up_no_other(
    storage_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pool, "HOT_SETTINGS", pool.HOT_SETTINGS | {"lock_timeout": "200ms"})
    async with running_engine(storage_url) as bench:
        schedules = await paused(bench)
        for name in ("bad", "good"):
            await schedules.put(definition(name))
            slot = await put_back(bench, name=name)
            if name == "bad":
                bad = slot
        holder = await connect(storage_url)
        try:
            transaction = holder.transaction()
            await transaction.start()
            await holder.execute(
                "insert into schedule_slot values (0, 'bad', $1, gen_random_uuid(), 'due')", bad
            )
            await schedules.fire_due()
            await transaction.rollback()
        finally:
            await holder.close()
        assert (len(await slots(bench, "bad")), len(await slots(bench, "good"))) == (0, 1)
        put_off = "select name from schedule where due_at >= next_at + interval '1 minute'"
        assert await rows(bench, put_off) == [("bad",)]
