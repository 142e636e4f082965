"""Schedules: each slot is stored once, whoever tries, and whatever is killed or turned back (rule 34)."""

import asyncio
import json
import math
from datetime import UTC, datetime, timedelta, tzinfo
from typing import Any

import pytest

from hyrex.runtime import cron as zones
from hyrex_broker.domain.errors import StorageUnavailable
from hyrex_broker.domain.schedules import CatchUp, ScheduleOptions, ScheduleSource
from hyrex_broker.engine.head_mark import HeadMark
from hyrex_broker.engine.schedule_parts import ForeignZones
from hyrex_broker.engine.schedules import LOOK_EVERY_S
from hyrex_broker.storage.marks import SCHEDULE_HEAD, MarkStore
from hyrex_broker.storage.queues import QueueChange, QueueStore
from hyrex_broker.storage.schedules import EVER, ScheduleStore
from hyrex_broker.storage.statements import load
from tests.integration.engine.bench import Bench, running_engine
from tests.integration.engine.scheduled import (
    HOURLY,
    MANY,
    definition,
    fire,
    next_leap_day,
    pause,
    paused,
    put_back,
    slots,
)
from tests.integration.engine.stored_rows import rows
from tests.support.postgres import connect


async def test_a_slot_that_is_due_reaches_a_worker_with_its_time(bench: Bench) -> None:
    _, link = await bench.worker()
    options = ScheduleOptions(5, 3, timeout_ms=1000, headers={"a": "b"}, labels={"team": "sales"})
    await bench.engine.schedules.put(definition(payload=b'{"a":1}', options=options))
    slot = await put_back(bench)
    bench.engine.schedules.look()
    (run,) = await link.until_runs(1)
    assert (run.name, run.queue, run.payload, run.max_retries, run.timeout_ms) == (
        "work", "default", b'{"a":1}', 3, 1000,
    )  # fmt: skip
    assert run.headers == {"a": "b", "hyrex-scheduled-for": slot.strftime("%Y-%m-%dT%H:%M:%S.%fZ")}
    ((labels,),) = await rows(bench, "select labels::text from task")
    assert labels == '{"team": "sales", "hyrex.schedule": "nightly"}'
    ((next_at, last_slot, last_id),) = await rows(
        bench, "select next_at, last_slot, last_task_id::text from schedule"
    )
    assert next_at == next_leap_day()
    assert (last_slot, last_id) == (slot, run.task_id)


async def test_two_brokers_that_fire_at_once_store_each_slot_once(bench: Bench, storage_url: str) -> None:
    schedules = await paused(bench)
    await bench.database.execute(
        f"{MANY} select 0, 's' || n, 'work', 'default', '0 0 29 2 *', 'UTC', '{{}}', $1, 'latest', 0, 'code',"
        " now(), now() from generate_series(1, 1000) n",
        '{"rank": 5, "max_retries": 0}',
    )
    async with running_engine(storage_url) as other:
        both = schedules, await paused(other)
        async with asyncio.timeout(60):
            while await rows(bench, "select from schedule where due_at <= now()"):
                await asyncio.gather(*[each.fire_due() for each in both * 3])
    assert await rows(bench, "select count(*), count(distinct schedule) from schedule_slot") == [(1000, 1000)]
    assert await rows(bench, "select count(*) from task") == [(1000,)]
    assert await rows(bench, "select count(*) from ready") == [(1000,)]


async def test_a_connection_that_ends_while_a_slot_is_stored_leaves_all_or_nothing(
    bench: Bench, storage_url: str
) -> None:
    """Rule 25: what waits for a lock here waits in the one statement that does all."""
    schedules = await paused(bench)
    await schedules.put(definition())
    slot = await put_back(bench)
    holder = await connect(storage_url)
    try:
        # The statement waits for this row when it has locked its schedule, and before it has stored its task.
        transaction = holder.transaction()
        await transaction.start()
        await holder.execute(
            "insert into schedule_slot values (0, 'nightly', $1, gen_random_uuid(), 'due')", slot
        )
        firing = asyncio.ensure_future(schedules.fire_due())
        await _until_one_waits(holder)
        await holder.execute(
            "select pg_terminate_backend(pid) from pg_stat_activity where wait_event_type = 'Lock'"
            " and datname = current_database()"
        )
        with pytest.raises(StorageUnavailable):
            await firing
        await transaction.rollback()
    finally:
        await holder.close()
    assert await rows(bench, "select (select count(*) from task), next_at from schedule") == [(0, slot)]
    await schedules.fire_due()
    await schedules.fire_due()
    assert await slots(bench) == [slot]
    assert await rows(bench, "select count(*) from ready") == [(1,)]


async def _until_one_waits(connection: Any) -> None:
    async with asyncio.timeout(60):
        while not await connection.fetchval(
            "select count(*) from pg_stat_activity where wait_event_type = 'Lock'"
            " and datname = current_database()"
        ):
            await asyncio.sleep(0.01)


async def test_of_slots_that_were_missed_the_latest_is_made_up_for(bench: Bench) -> None:
    schedules = await paused(bench)
    await schedules.put(definition(cron=HOURLY))
    await put_back(bench, 200)
    newest = await fire(bench)
    assert await slots(bench) == [newest]


async def test_with_all_the_latest_hundred_are_made_up_for(bench: Bench) -> None:
    schedules = await paused(bench)
    await schedules.put(definition(cron=HOURLY, catchup=CatchUp.ALL))
    await schedules.put(definition("few", cron=HOURLY, catchup=CatchUp.ALL))
    await put_back(bench, 200)
    oldest = await put_back(bench, 2, "few")
    newest = await fire(bench)
    assert await slots(bench) == [newest - timedelta(hours=back) for back in reversed(range(100))]
    few = await slots(bench, "few")
    assert few[0] == oldest
    assert few[-1] == newest
    causes = await rows(bench, "select cause from schedule_slot where schedule = 'few' order by slot")
    assert causes == [("missed",)] * (len(few) - 1) + [("due",)]


async def test_nothing_is_stored_for_a_lease_after_a_jump_of_the_databases_clock(bench: Bench) -> None:
    schedules = await paused(bench)
    await schedules.put(definition())
    await put_back(bench)
    clock = bench.engine.schedules._clock
    now = (await ScheduleStore(bench.database).now()).timestamp()
    clock.observe(now - 3600)  # what this broker saw a moment ago was an hour earlier
    wait_s = await schedules.fire_due()
    assert await slots(bench) == []
    assert 0 < wait_s <= 15
    schedules._quiet_until = -math.inf  # a lease later
    await schedules.fire_due()
    assert len(await slots(bench)) == 1


async def test_a_paused_schedule_stores_nothing_and_goes_on_with_the_next_slot(bench: Bench) -> None:
    schedules, store = await paused(bench), ScheduleStore(bench.database)
    await schedules.put(definition())
    await pause(bench)
    await put_back(bench, 5)
    await schedules.fire_due()
    seen = await store.find("nightly")
    assert seen is not None
    await schedules.resume(seen.schedule)
    await schedules.fire_due()
    assert await slots(bench) == []
    assert await rows(bench, "select next_at, paused from schedule") == [(next_leap_day(), False)]


async def test_a_schedule_that_was_edited_since_it_was_looked_at_stores_nothing(bench: Bench) -> None:
    schedules, store = await paused(bench), ScheduleStore(bench.database)
    await schedules.put(definition())
    await put_back(bench)
    due = await store.due(10)
    assert due is not None
    await pause(bench)
    assert not await schedules._fire(due.schedules, due.now)
    assert await rows(bench, "select count(*) from task") == [(0,)]


async def test_a_full_queue_puts_the_slot_off_and_loses_it_not(bench: Bench) -> None:
    schedules = await paused(bench)
    await QueueStore(bench.database).update("small", QueueChange(max_waiting=1))
    await bench.engine.directory.refresh()
    for name in ("one", "two"):
        await schedules.put(definition(name, queue="small"))
        await put_back(bench, name=name)
    ((before,),) = await rows(bench, "select now()")
    await schedules.fire_due()
    assert await rows(bench, "select count(*) from ready") == [(1,)]
    ((due_at, now),) = await rows(bench, "select due_at, now() from schedule order by due_at limit 1")
    assert before < due_at <= now + timedelta(seconds=5)
    await bench.database.execute("delete from ready")
    bench.engine.schedules._places._rooms._rooms.clear()
    await bench.database.execute("update schedule set due_at = now() where next_at <= now()")
    await schedules.fire_due()
    assert len(await rows(bench, "select from schedule_slot")) == 2


async def test_a_schedule_that_the_database_refuses_holds_up_no_other(bench: Bench) -> None:
    schedules = await paused(bench)
    for name in ("bad", "good"):
        await schedules.put(definition(name))
        await put_back(bench, name=name)
    await bench.database.execute(
        "update schedule set options = jsonb_set(options, '{rank}', '77') where name = 'bad'"
    )
    await schedules.fire_due()
    assert (len(await slots(bench, "bad")), len(await slots(bench, "good"))) == (0, 1)


async def test_what_an_operator_wrote_code_does_not_change(bench: Bench) -> None:
    schedules, store = bench.engine.schedules, ScheduleStore(bench.database)
    code = definition(cron="0 9 * * *", source=ScheduleSource.CODE)
    assert await schedules.declare([code])
    assert not await schedules.declare([code])
    assert await schedules.declare([definition(cron="0 10 * * *", source=ScheduleSource.CODE)])
    await pause(bench)
    assert not await schedules.declare([definition(cron="0 10 * * *", source=ScheduleSource.CODE)])
    await schedules.put(definition(cron="0 11 * * *"))
    assert not await schedules.declare([code])
    seen = await store.find("nightly")
    assert seen is not None
    found = seen.schedule.definition
    assert (found.cron, found.source, found.paused) == ("0 11 * * *", ScheduleSource.OPERATOR, True)
    # Whoever has looked before the operator wrote changes nothing either.
    moment = datetime(2030, 1, 1, tzinfo=UTC)
    assert not await store.put(code, moment, moment, "default")


async def test_a_broker_sleeps_until_the_next_slot_is_due(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    schedules = await paused(bench)
    assert await schedules.fire_due() == LOOK_EVERY_S
    await schedules.put(definition())
    await bench.database.execute("update schedule set due_at = now() + interval '5 minutes'")
    with monkeypatch.context() as patched:
        patched.setattr("hyrex_broker.engine.schedules.LOOK_EVERY_S", 600.0)
        assert 0 < await schedules.fire_due() <= 300
    await bench.database.execute("update schedule set due_at = now() + interval '1 hour'")
    assert await schedules.fire_due() == LOOK_EVERY_S


async def test_looking_at_many_schedules_reads_one_place_of_an_index(bench: Bench) -> None:
    await bench.database.execute("truncate schedule")  # other tests have left rows behind in the index
    await bench.database.execute(
        f"{MANY} select 0, 's' || n, 'work', 'default', '0 3 * * *', 'UTC', '{{}}', '{{}}', 'latest', 0,"
        " 'code', now() + interval '1 hour', now() + interval '1 hour' from generate_series(1, 10000) n"
    )
    plan = await bench.database.fetch(
        f"explain (analyze, buffers, format json) {load('schedules')['next_due']}", [], EVER
    )
    shown = str(json.loads(plan[0][0]))
    assert "schedule_due" in shown
    assert json.loads(plan[0][0])[0]["Plan"]["Shared Hit Blocks"] < 10


async def test_a_zone_that_one_broker_lacks_puts_a_schedule_off_for_nobody(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It leaves the schedule to the others, which have other data, and stores what else is due."""
    schedules = await paused(bench)
    await schedules.put(definition())
    await schedules.put(definition("abroad", tz="Europe/Berlin"))
    back = await put_back(bench), await put_back(bench, name="abroad")
    known = zones.checked_zone

    def lacking(name: str) -> tzinfo:
        if name != "UTC":
            raise zones.ZoneUnknown("tz", name, "is not here")
        return known(name)

    with monkeypatch.context() as here:
        here.setattr(zones, "checked_zone", lacking)
        await schedules.fire_due()
        await schedules.fire_due()
    assert await rows(bench, "select schedule, slot from schedule_slot") == [("nightly", back[0])]
    left = "select next_at, due_at <= now() from schedule where name = 'abroad'"
    assert await rows(bench, left) == [(back[1], True)]
    schedules._foreign = ForeignZones()  # as in any other broker
    await schedules.fire_due()
    assert await slots(bench, "abroad") == [back[1]]


async def test_what_is_forgotten_of_slots_outlives_their_schedule(bench: Bench) -> None:
    """Else one that is deleted and put again would fill them a second time."""
    schedules = await paused(bench)
    store = ScheduleStore(bench.database)
    await schedules.put(definition())
    slot = await put_back(bench)
    await schedules.fire_due()
    await bench.database.execute("delete from schedule")
    await bench.database.execute("update schedule_slot set stored_at = now() - interval '9 days'")
    await bench.database.execute(load("schedules")["forget"], timedelta(days=7), 100)
    await schedules.put(definition())
    assert await rows(bench, "select count(*) from schedule_slot") == [(0,)]
    assert await store.forgotten_through("nightly") == slot


async def test_schedules_are_read_from_a_mark_on_and_one_below_it_is_found(bench: Bench) -> None:
    """Each slot leaves a dead entry at the head of the index, for as long as a transaction is held open."""
    schedules = await paused(bench)
    await schedules.put(definition())
    await schedules.fire_due()
    first = schedules.mark.at
    assert first > EVER
    slot = await put_back(bench, hours=1)
    await schedules.fire_due()
    assert await slots(bench) == []
    await schedules.find_below()
    assert schedules.mark.at < first
    await schedules.fire_due()
    assert await slots(bench) == [slot]
    await schedules.fire_due()
    assert schedules.mark.at >= first
    later = HeadMark(SCHEDULE_HEAD, MarkStore(bench.database))
    await later.load()
    assert later.at >= first - timedelta(seconds=3)
