"""What workers declare and an older broker would break is stored when that one has gone (rule 21)."""

import asyncio
from typing import Any

import pytest

from hyrex_broker.domain.rates import DeclaredLimit, Rate
from hyrex_broker.domain.schedules import ScheduleOptions, ScheduleSource
from tests.integration.engine.bench import Bench
from tests.integration.engine.outbox_calls import enqueue, relay_all, stilled
from tests.integration.engine.scheduled import definition
from tests.integration.engine.stored_rows import rows, until_rows
from tests.support.postgres import connect

LIMITS = "select name, maximum, rate_count from concurrency_limit order by name"


@pytest.fixture
async def older(bench: Bench) -> str:
    """The name of a broker that lives and knows no feature."""
    await bench.database.execute(
        "insert into broker (name, address, version, seen_at)"
        " values ('older', 'o:1', '0', now() + interval '1 hour')"
    )
    async with asyncio.timeout(60):
        while not bench.engine.presence.gate._older:
            await asyncio.sleep(0.02)
    return "older"


async def _gone(bench: Bench) -> None:
    await bench.database.execute("update broker set seen_at = 'epoch' where name = 'older'")


async def test_rates_in_code_wait_for_an_older_broker_to_go_and_their_maxima_do_not(
    bench: Bench, older: str, caplog: pytest.LogCaptureFixture
) -> None:
    both = DeclaredLimit("task", "both", 3, Rate(5, 60_000, 1))
    await bench.worker(
        tasks=["both", "rated"], limits=[both, DeclaredLimit("task", "rated", 0, Rate(7, 60_000, 1))]
    )
    await bench.engine.directory.settle_limits()
    assert await rows(bench, LIMITS) == [("both", 3, None)]
    assert "wait for an older broker to go" in caplog.text
    await _gone(bench)
    await until_rows(bench, LIMITS, [("both", 3, 5), ("rated", None, 7)])
    assert await rows(bench, "select name from used_feature") == [("rates",)]


async def test_a_declared_schedule_of_tasks_that_expire_waits_for_an_older_broker_to_go(
    bench: Bench, older: str
) -> None:
    options = ScheduleOptions(5, 0, expires_in_ms=1000)
    expiring = definition("expiring", options=options, source=ScheduleSource.CODE)
    await bench.engine.schedules.declare([expiring, definition("plain", source=ScheduleSource.CODE)])
    names = "select name from schedule order by name"
    assert await rows(bench, names) == [("plain",)]
    await _gone(bench)
    await until_rows(bench, names, [("expiring",), ("plain",)])
    assert await rows(bench, "select name from used_feature") == [("expiry",)]


@pytest.mark.parametrize(
    ("options", "feature"),
    [
        ({"expires_in_seconds": 60}, "expiry"),
        ({"concurrency_key": "k"}, "concurrency keys"),
        ({"fair_key": "k"}, "fair keys"),
    ],
)
async def test_an_enqueued_task_of_which_an_older_broker_would_not_know_waits_for_it_to_go(
    bench: Bench, older: str, options: dict[str, Any], feature: str
) -> None:
    relay = await stilled(bench)
    await relay.relay_next()
    caller = await connect(bench.database.url)
    try:
        plain, late = await enqueue(caller), await enqueue(caller, **options)
    finally:
        await caller.close()
    await relay_all(relay)
    assert await rows(bench, "select id::text from task") == [(plain,)]
    ((row, held, reason),) = await rows(bench, "select id::text, held, reason from outbox")
    assert (row, held) == (late, "refused")
    assert feature in reason
    assert older in reason
    await _gone(bench)
    async with asyncio.timeout(60):
        while bench.engine.presence.gate._older:
            await asyncio.sleep(0.02)
    await relay.retry_refused()
    assert {row[0] for row in await rows(bench, "select id::text from task")} == {plain, late}
    assert await rows(bench, "select name from used_feature") == [(feature,)]
