"""Rates (rule 32): a lock as maxima are, whose last use is the newest of inserted rows."""

import asyncio
import json
from datetime import timedelta
from typing import Any

from hyrex_broker.domain.model import LaneId, Outcome, TaskExtras
from hyrex_broker.domain.rates import DeclaredLimit, Rate
from hyrex_broker.storage.assign import AssignResult
from hyrex_broker.storage.retention import RetentionStore
from hyrex_broker.storage.sessions import Opened
from hyrex_broker.storage.statements import load
from tests.integration.storage.stage import Stage, end_of, new_task
from tests.integration.storage.waits import until_blocked
from tests.support.assigned import runs_of

SLOW = Rate(1, 3_600_000, 3)
"""Three at once, then none for an hour: no test takes so long that another token comes."""
KEY = ("task", "work")


async def _rated(stage: Stage, rate: Rate = SLOW, maximum: int = 0) -> None:
    await stage.lanes.declare_limits([DeclaredLimit(*KEY, maximum, rate)])


async def _taken(
    stage: Stage, opened: Opened, lane: LaneId, count: int = 10, clock: Any = lambda now: None
) -> AssignResult:
    plan = stage.plan(opened, lane, count)
    return await stage.assigns.assign_limited(plan, stage.names, {lane: [KEY]}, clock)


async def test_two_brokers_together_assign_no_more_than_a_rate_allows(stage: Stage, rival: Stage) -> None:
    await _rated(stage)
    await stage.submitted(50)
    lane = await stage.lane()
    await rival.lane()
    mine, theirs = await stage.session(), await rival.session()
    taken = await asyncio.gather(
        *(_taken(stage, mine, lane, 2) for _ in range(4)),
        *(_taken(rival, theirs, lane, 2) for _ in range(4)),
    )
    assert sum(len(runs_of(result.blocks)) for result in taken) == 3


async def test_the_look_at_a_rate_sees_what_was_committed_while_it_waited(
    stage: Stage, connection: Any
) -> None:
    await _rated(stage)
    await stage.submitted(5)
    lane, opened = await stage.lane(), await stage.session()
    async with connection.transaction():
        await connection.execute("select from concurrency_limit for update")
        assigning = asyncio.create_task(_taken(stage, opened, lane))
        await until_blocked(connection)
        await connection.execute(
            "insert into rate_use (namespace, scope, name, full_at)"
            " values (0, 'task', 'work', clock_timestamp() + interval '3 hours')"
        )
    result = await assigning
    assert result.blocks == []
    assert timedelta(minutes=50) < result.waits[lane] <= timedelta(hours=1)


async def test_a_token_is_taken_when_the_lock_is_had_and_not_when_it_was_asked_for(
    stage: Stage, connection: Any
) -> None:
    """now() is the time of BEGIN: by it, what waited for the lock would be assigned beside another burst."""
    await _rated(stage, Rate(1000, 1000, 5))
    await stage.submitted(5)
    lane, opened = await stage.lane(), await stage.session()
    async with connection.transaction():
        await connection.execute("select from concurrency_limit for update")
        assigning = asyncio.create_task(_taken(stage, opened, lane))
        await until_blocked(connection)
        released_at = await connection.fetchval("select clock_timestamp()")
    assert len(runs_of((await assigning).blocks)) == 5
    assert await stage.execute("select full_at from rate_use") >= released_at + timedelta(milliseconds=5)


async def test_a_retry_takes_a_token_and_an_end_gives_none_back(stage: Stage) -> None:
    await _rated(stage)
    await stage.submitted(max_retries=5)
    lane, opened = await stage.lane(), await stage.session()
    for _ in range(3):
        (run,) = runs_of((await _taken(stage, opened, lane)).blocks)
        await stage.ended([end_of(run, Outcome.FAILED, retry_delay_ms=0)])
        await stage.due_now()
    assert (await _taken(stage, opened, lane)).blocks == []
    assert await stage.execute("select count(*) from ready") == 1


async def test_of_a_maximum_and_a_rate_the_lower_holds(stage: Stage) -> None:
    await _rated(stage, maximum=2)
    await stage.submitted(10)
    lane, opened = await stage.lane(), await stage.session()
    first = runs_of((await _taken(stage, opened, lane)).blocks)
    assert len(first) == 2, "the maximum"
    result = await _taken(stage, opened, lane)
    assert (result.blocks, dict(result.waits)) == ([], {}), "a lease must end, so no token is waited for"
    for run in first:
        await stage.end(run, Outcome.COMPLETED)
    result = await _taken(stage, opened, lane)
    assert len(runs_of(result.blocks)) == 1, "the rate"
    assert set(result.waits) == {lane}


async def test_what_is_not_there_takes_no_token(stage: Stage) -> None:
    await _rated(stage)
    lane, opened = await stage.lane(), await stage.session()
    assert (await _taken(stage, opened, lane)).blocks == []
    await stage.submitted(5)
    assert len(runs_of((await _taken(stage, opened, lane)).blocks)) == 3


async def test_a_task_that_has_expired_takes_no_token(stage: Stage) -> None:
    await _rated(stage)
    extras = TaskExtras(expires_in_ms=3_600_000)
    late = await stage.submit(*(new_task(extras=extras) for _ in range(3)))
    await stage.execute("update task set expires_at = now() - interval '1 second'")
    lane, opened = await stage.lane(), await stage.session()
    result = await _taken(stage, opened, lane)
    assert (result.blocks, {task_id for task_id, _ in result.expired}) == ([], {*late})
    assert dict(result.waits) == {}, "there are tokens still"
    await stage.submitted(5)
    assert len(runs_of((await _taken(stage, opened, lane)).blocks)) == 3


async def test_a_limit_of_a_queue_and_one_of_a_task_each_count(stage: Stage) -> None:
    queue = ("queue", "default")
    await stage.lanes.declare_limits(
        [DeclaredLimit(*KEY, 0, SLOW), DeclaredLimit(*queue, 0, Rate(1, 3_600_000, 2))]
    )
    await stage.submitted(10)
    lane, opened = await stage.lane(), await stage.session()
    result = await stage.assigns.assign_limited(
        stage.plan(opened, lane, 10), stage.names, {lane: [KEY, queue]}
    )
    assert len(runs_of(result.blocks)) == 2
    assert len(runs_of((await _taken(stage, opened, lane)).blocks)) == 1, "the task's rate has one left"


async def test_after_a_jump_of_the_clock_the_tokens_of_before_are_not_trusted(stage: Stage) -> None:
    await _rated(stage)
    await stage.submitted(5)
    lane, opened = await stage.lane(), await stage.session()
    assert (await _taken(stage, opened, lane, clock=lambda now: now)).blocks == []


async def test_after_the_clock_was_set_back_tokens_come_again(stage: Stage) -> None:
    """What was stored then is a day ahead: it is replaced, also by an assign that takes nothing."""
    await _rated(stage, Rate(1000, 1000, 1))
    await stage.submitted(5)
    lane, opened = await stage.lane(), await stage.session()
    assert len(runs_of((await _taken(stage, opened, lane)).blocks)) == 1
    await stage.execute("update rate_use set full_at = full_at + interval '1 day'")
    assert (await _taken(stage, opened, lane)).blocks == []
    assert await stage.execute("select full_at < now() + interval '1 hour' from rate_use")


async def test_under_a_held_snapshot_the_last_use_is_found_as_fast(stage: Stage, connection: Any) -> None:
    """The dead rows of all uses before are kept, and stand before the newest in the index, which is read from
    its end."""
    sql, keys = load("assign"), (["task"], ["work"])

    async def used() -> int:
        """Use the rate once more; how many pages its last use was found in."""
        (found,) = await stage.database.fetch(sql["rate_uses"], *keys)
        await stage.database.execute(sql["use_rates"], *keys, [found["at"]], [found["id"]])
        rows = await stage.database.fetch(
            "explain (analyze, buffers, format json) " + sql["rate_uses"], *keys
        )
        plan = json.loads(rows[0][0])[0]["Plan"]
        return int(plan["Shared Hit Blocks"] + plan["Shared Read Blocks"])

    async with connection.transaction(isolation="repeatable_read"):
        await connection.execute("select count(*) from rate_use")
        pages = [await used() for _ in range(600)]
    assert await stage.execute("select count(*) from rate_use") == 1
    assert max(pages[-100:]) <= max(pages[:100]) + 2, "the index may have got one more level"


async def test_uses_of_rates_that_are_gone_are_forgotten(stage: Stage, storage_url: str) -> None:
    await stage.execute(
        "insert into concurrency_limit (namespace, scope, name, maximum, source, rate_count, rate_period_ms,"
        " rate_burst) values (0, 'task', 'rated', null, 'code', 5, 1000, 1),"
        " (0, 'task', 'bare', 1, 'code', null, null, null)"
    )
    await stage.execute(
        "insert into rate_use (namespace, scope, name, full_at)"
        " select 0, 'task', unnest(array['rated', 'bare', 'gone']), now()"
    )
    await RetentionStore(storage_url).maintain(timedelta(days=7))
    assert await stage.execute("select array_agg(name) from rate_use") == ["rated"]
