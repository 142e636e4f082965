"""Schedules whose tasks have keys: slots that overlap wait for one another, or give way; and fair shares."""

from typing import Any

from hyrex_broker.domain.features import OlderBroker
from hyrex_broker.domain.model import CancelCause, Outcome, RetryOutcome
from hyrex_broker.domain.schedules import Cause, ScheduleOptions
from tests.integration.engine.bench import Bench
from tests.integration.engine.scheduled import definition, fire, paused, put_back
from tests.integration.engine.stored_rows import rows, until_rows
from tests.integration.storage.keys import keyed
from tests.integration.storage.stage import end_of, new_task


async def _put(bench: Bench, **options: Any) -> None:
    await bench.engine.schedules.put(definition(options=ScheduleOptions(5, 0, **options)))


async def _fire(bench: Bench, hours: float) -> None:
    await put_back(bench, hours)
    await fire(bench)


async def test_a_slot_waits_for_the_task_of_the_one_before(bench: Bench) -> None:
    await paused(bench)
    _, link = await bench.worker()
    await _put(bench, concurrency_key="nightly")
    await _fire(bench, 2)
    (first,) = await link.until_runs(1)
    await _fire(bench, 1)
    await until_rows(bench, "select key is null, drops from blocked", [(False, False)])
    await bench.report([end_of(first, Outcome.COMPLETED)])
    assert len(await link.until_runs(2)) == 2
    keys = await rows(bench, "select concurrency_key, max_per_key from task group by 1, 2")
    assert keys == [("nightly", 1)]


async def test_a_slot_that_is_not_to_wait_gives_way_and_says_why(bench: Bench) -> None:
    await paused(bench)
    _, link = await bench.worker()
    await bench.submit([keyed("nightly")])
    (holder,) = await link.until_runs(1)
    await _put(bench, concurrency_key="nightly", refuses_to_wait=True)
    await _fire(bench, 1)
    ended = [(5, True, CancelCause.KEY_BUSY, "its concurrency key was busy")]
    await until_rows(bench, "select outcome, final, cause, reason from task_run", ended)
    assert await rows(bench, "select from blocked") == []
    ((dropped,),) = await rows(bench, "select task_id::text from task_run")
    await bench.report([end_of(holder, Outcome.COMPLETED)])
    assert await bench.engine.cancels.retry([dropped]) == [RetryOutcome.REQUEUED]
    assert (await link.until_runs(2))[1].task_id == dropped
    await _fire(bench, 0.5)
    await until_rows(bench, "select count(*) from task_run where cause = 6", [(2,)])
    await bench.report([end_of(link.runs[1], Outcome.COMPLETED)])
    await _fire(bench, 0.1)
    assert len(await link.until_runs(3)) == 3


async def test_a_slot_goes_to_the_lane_of_its_fair_key(bench: Bench) -> None:
    await paused(bench)
    await _put(bench, fair_key="ada")
    await _fire(bench, 1)
    await bench.submit([new_task(fair_key="ada")])
    lanes = "select count(*), fair_key from ready join task on id = task_id group by ready.lane, 2"
    assert await rows(bench, lanes) == [(2, "ada")]


async def test_a_slot_that_is_asked_for_has_the_keys_too(bench: Bench) -> None:
    schedules = await paused(bench)
    _, link = await bench.worker()
    await _put(bench, concurrency_key="nightly", max_per_key=2)
    seen = await schedules._store.find("nightly")
    assert seen is not None
    for _ in range(3):
        stored = await schedules.extra.store(seen.schedule, [await schedules._store.now()], Cause.TRIGGER)
        assert len(stored) == 1
    await link.until_runs(2)
    await until_rows(bench, "select count(*) from blocked", [(1,)])


async def test_what_a_killed_broker_has_not_followed_is_found_by_the_sweep(bench: Bench) -> None:
    schedules = await paused(bench)
    schedules.places.on_blocked = lambda task_ids: None
    _, link = await bench.worker()
    await _put(bench, concurrency_key="nightly", refuses_to_wait=True)
    await _fire(bench, 1)
    bench.engine.follow.sweep_soon()
    assert len(await link.until_runs(1)) == 1


async def test_keys_of_schedules_are_declared_when_older_brokers_have_gone(bench: Bench) -> None:
    gate = bench.engine.presence.gate
    gate.learn([OlderBroker("older", "1", frozenset())])
    wanted = definition(options=ScheduleOptions(5, 0, concurrency_key="nightly"))
    await bench.engine.schedules.declare([wanted])
    assert await rows(bench, "select from schedule") == []
    gate.learn([])
    await until_rows(bench, "select options->>'concurrency_key' from schedule", [("nightly",)])
