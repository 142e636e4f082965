"""Who may change which schedule, and what is concluded from what others have stored."""

from dataclasses import replace
from datetime import UTC, datetime
from functools import partial

import pytest

from hyrex_broker.domain.rights import Caller, Scope
from hyrex_broker.domain.schedules import Cause, ScheduleSource
from hyrex_broker.engine.schedules import ScheduleElsewhere
from hyrex_broker.service.work_rights import within_rights
from hyrex_broker.storage.schedules import ScheduleStore
from tests.integration.engine.bench import Bench, Link, introduced
from tests.integration.engine.scheduled import definition
from tests.integration.engine.stored_rows import rows


async def test_a_workers_code_takes_over_no_schedule_of_a_queue_that_its_token_is_not_for(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    """Rule 39: its effect lands in both queues. The worker is served, and learns nothing."""
    schedules = bench.engine.schedules
    await schedules.declare([definition(queue="billing", source=ScheduleSource.CODE)])
    mine = [
        definition(name, queue="mail", source=ScheduleSource.CODE, payload=b"{}")
        for name in ("nightly", "own")
    ]
    token = Caller("worker", frozenset({Scope.WORK, Scope.SUBMIT}), ("mail",))
    told = replace(introduced(1, ["work"]), schedules=mine)
    told = replace(told, info=replace(told.info, queue_patterns=["mail"]))
    allowed = await within_rights(told, token, bench.engine.sessions.tasks_elsewhere)
    await bench.engine.sessions.open(allowed, Link())
    found = await rows(bench, "select name, queue from schedule order by name")
    assert found == [("nightly", "billing"), ("own", "mail")]
    assert "schedules of a worker's code were left out" in caplog.text
    assert await schedules.declare(mine)  # by whoever may change both
    assert await rows(bench, "select queue from schedule where name = 'nightly'") == [("mail",)]


async def test_a_schedule_that_moves_while_it_is_put_is_looked_at_again(bench: Bench) -> None:
    schedules, store = bench.engine.schedules, ScheduleStore(bench.database)
    moment = datetime(2030, 1, 1, tzinfo=UTC)
    wanted = definition(queue="mail")
    assert await store.put(definition(queue="billing"), moment, moment, None)
    assert not await store.put(wanted, moment, moment, None)  # since then it was stored
    assert not await store.put(wanted, moment, moment, "mail")  # since then it has moved
    with pytest.raises(ScheduleElsewhere):
        await schedules.put(wanted, lambda queue: queue == "mail")
    assert await schedules.put(wanted)
    assert await rows(bench, "select queue from schedule") == [("mail",)]


async def test_code_that_says_the_same_is_known_by_its_payloads_hash(bench: Bench) -> None:
    schedules = bench.engine.schedules
    one = definition(payload=b"one", source=ScheduleSource.CODE)
    assert await schedules.declare([one])
    assert not await schedules.declare([one])
    assert await schedules.declare([replace(one, payload=b"two")])
    assert await schedules.declare([replace(one, payload=b"longer")])
    assert await rows(bench, "select payload from schedule") == [(b"longer",)]


async def test_what_others_have_stored_is_confirmed_before_it_is_answered(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Promise 1: under synchronous replication their commit may be interrupted, and seen here only."""
    schedules, store = bench.engine.schedules, ScheduleStore(bench.database)
    code = definition(source=ScheduleSource.CODE)
    await schedules.declare([code])
    slot = [datetime(2030, 1, 1, tzinfo=UTC)]
    seen = await store.find("nightly")
    assert seen is not None
    (stored,) = await schedules.extra.store(seen.schedule, slot, Cause.BACKFILL)

    confirmed: list[str] = []
    confirm = bench.database.confirm

    async def noted() -> None:
        confirmed.append("once")
        await confirm()

    monkeypatch.setattr(bench.database, "confirm", noted)
    for answer in (
        partial(schedules.declare, [code]),
        partial(store.slot_of, "nightly", stored.task_id),
        partial(store.stored_slots, "nightly", slot),
    ):
        confirmed.clear()
        await answer()
        assert confirmed, answer
