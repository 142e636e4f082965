"""Concurrency keys under locks and snapshots that others hold, and under a clock that is set back."""

import asyncio
from typing import Any
from uuid import uuid4

from hyrex_broker.domain.errors import StorageUnavailable
from hyrex_broker.domain.model import Outcome
from hyrex_broker.storage.keyed import Admitted, Placing
from hyrex_broker.storage.workflows import WorkflowStore
from tests.integration.engine.workflow_runs import LIMIT
from tests.integration.storage.keys import (
    admissions,
    end,
    follow,
    hashed,
    keyed,
    store_of,
    submit_keyed,
    take,
)
from tests.integration.storage.stage import Stage, end_of, new_task
from tests.integration.storage.stored_workflows import stored_workflow
from tests.integration.storage.waits import until_blocked
from tests.support.postgres import connect

# `clock_timestamp` of the schema stands before that of Postgres.
_SET_BACK = """
create or replace function hyrex.clock_timestamp() returns timestamptz language sql as
'select pg_catalog.clock_timestamp() - interval ''{s} seconds''';
alter function hyrex.follow set search_path = hyrex, pg_catalog;
alter function hyrex.admit set search_path = hyrex, pg_catalog;
"""
_AS_BEFORE = """
alter function hyrex.follow set search_path = hyrex;
alter function hyrex.admit set search_path = hyrex;
drop function hyrex.clock_timestamp();
"""


async def test_a_clock_that_is_set_back_lets_no_more_run_than_may(stage: Stage, connection: Any) -> None:
    """As by a new primary whose clock is behind: the order of a key's seats is not that of a clock."""
    held, later = [keyed("a", 2), keyed("a", 2)], [keyed("a", 2) for _ in range(4)]
    try:
        await submit_keyed(stage, held[0])
        await connection.execute(_SET_BACK.format(s=3600))
        await submit_keyed(stage, held[1])
        await submit_keyed(stage, later[0])
        await connection.execute(_SET_BACK.format(s=0))
        for task in later[1:]:
            await submit_keyed(stage, task)
        runs = await take(stage, 9)
        await end(stage, *[run for run in runs if run.task_id == held[0].task_id])
        assert await follow(stage, held[0].task_id) == {later[0].task_id}
    finally:
        await connection.execute(_AS_BEFORE)


async def test_a_task_sent_to_two_brokers_at_once_is_not_refused_for_itself(
    stage: Stage, rival: Stage, connection: Any
) -> None:
    """A client that did not get the first answer sends it again, while the first statement waits."""
    task = keyed(refuses=True)
    async with connection.transaction():
        await connection.execute("set search_path = hyrex")
        await connection.execute("select lock_stripes(array[$1::bigint])", hashed("a"))
        sent = [asyncio.create_task(submit_keyed(each, task)) for each in (stage, rival)]
        await until_blocked(connection, 2)
    found: list[Admitted] = []
    for answer in await asyncio.gather(*sent, return_exceptions=True):
        # On a slow machine one may have waited for as long as a statement may.
        if not isinstance(answer, StorageUnavailable):
            assert not isinstance(answer, BaseException)
            found += answer.values()
    assert not [each for each in found if each.admission is Placing.REFUSED]


async def test_stripes_and_blocked_tasks_are_locked_in_order(
    stage: Stage, rival: Stage, connection: Any
) -> None:
    """Rule 24: who waits for one holds none of those after it."""
    first, second = [keyed("a"), keyed("b")], [keyed("a"), keyed("b")]
    await submit_keyed(stage, *first)
    await submit_keyed(stage, second[1])
    await submit_keyed(stage, second[0])
    await end(stage, *await take(stage, 9))
    other = await connect(stage.database.url)
    try:
        for low, high in (
            [f"stripe where id = {hashed(key) & 1023}" for key in "ab"],
            [f"blocked where task_id = '{task.task_id}'" for task in second],
        ):
            async with connection.transaction():
                await connection.execute(f"select from hyrex.{low} for update")
                following = asyncio.create_task(follow(rival, *[task.task_id for task in first]))
                await until_blocked(connection)
                assert await other.fetch(f"select from hyrex.{high} for update skip locked")
                following.cancel()
                await other.execute(_END_WAITING)
            await asyncio.gather(following, return_exceptions=True)
    finally:
        await other.close()


async def test_roots_and_nodes_are_locked_in_order(stage: Stage, rival: Stage, connection: Any) -> None:
    """The same of what decides on workflows."""
    roots = []
    for _ in "ab":
        ids = await stored_workflow(stage, {"x": []})
        await end(stage, *await take(stage))
        roots.append((ids[""], ids["x"]))
    (low, first), (high, second) = sorted(roots)
    other = await connect(stage.database.url)
    try:
        async with connection.transaction():
            await connection.execute("select from hyrex.blocked where task_id = $1 for update", low)
            deciding = asyncio.create_task(WorkflowStore(rival.database).advance([first, second], LIMIT))
            await until_blocked(connection)
            free = "select from hyrex.blocked where task_id = $1 for update skip locked"
            assert await other.fetch(free, high)
        assert len(await deciding) == 2
    finally:
        await other.close()


async def test_what_waits_for_a_stripe_has_connections_of_its_own(stage: Stage, connection: Any) -> None:
    """Rule 42, by the connections themselves: those that wait are none of those for plain statements."""
    waiting_pids = (
        "select array_agg(pid) from pg_stat_activity"
        " where datname = current_database() and wait_event_type = 'Lock'"
    )
    await submit_keyed(stage, keyed())  # which makes the lane
    async with connection.transaction():
        await connection.execute("set search_path = hyrex")
        await connection.execute("select lock_stripes(array[$1::bigint])", hashed("a"))
        waiting = [asyncio.create_task(submit_keyed(stage, keyed())) for _ in range(20)]
        await until_blocked(connection, 2)
        pids = set(await connection.fetchval(waiting_pids))
        plain = [stage.database.fetch("select pg_backend_pid(), pg_sleep(0.02)") for _ in range(20)]
        assert not pids & {row[0] for rows in await asyncio.gather(*plain) for row in rows}
    await asyncio.gather(*waiting, return_exceptions=True)


_END_WAITING = """
select pg_terminate_backend(pid, 10000) from pg_stat_activity
where datname = current_database() and wait_event_type = 'Lock'
"""


async def test_plain_tasks_pass_a_stripe_that_is_held(stage: Stage, connection: Any) -> None:
    """Rule 42: what waits for it has connections of its own, and there are more such statements than
    those."""
    await submit_keyed(stage, keyed())
    async with connection.transaction():
        await connection.execute("set search_path = hyrex")
        await connection.execute("select lock_stripes(array[$1::bigint])", hashed("a"))
        waiting = [asyncio.create_task(submit_keyed(stage, keyed())) for _ in range(8)]
        await until_blocked(connection, 4)
        for _ in range(20):
            await stage.submit(new_task())
        assert not any(each.done() and each.exception() is None for each in waiting)
    for found in await asyncio.gather(*waiting, return_exceptions=True):
        # On a slow machine one may have waited for as long as a statement may.
        if not isinstance(found, StorageUnavailable):
            assert not isinstance(found, BaseException)
            assert [each.admission for each in found.values()] == [Placing.BLOCKED]


async def _buffers(connection: Any, *task_ids: str) -> int:
    """How many pages following these ends reads, by EXPLAIN."""
    ids = ",".join(sorted(task_ids))
    lines = await connection.fetch(
        f"explain (analyze, buffers, format text) select * from follow('{{{ids}}}'::uuid[], '{{}}')"
    )
    return _pages(lines)


def _pages(lines: Any) -> int:
    first = next(line[0] for line in lines if "Buffers:" in line[0])
    return sum(int(part.partition("=")[2]) for part in first.split() if part.startswith(("hit=", "read=")))


async def test_a_held_snapshot_makes_later_admissions_no_dearer(stage: Stage, connection: Any) -> None:
    """Rule 31: the marks stand with the seat; without them each admission passes all the dead rows before
    it."""
    count = 400
    tasks = sorted([keyed() for _ in range(count)], key=lambda task: task.task_id)
    await submit_keyed(stage, *tasks)
    other = await _connected(stage)
    try:
        async with connection.transaction(isolation="repeatable_read"):
            await connection.fetchval("select count(*) from hyrex.seat")
            costs = []
            for task in tasks[:-1]:
                await end(stage, *await take(stage))
                costs.append(await _buffers(other, task.task_id))
    finally:
        await other.close()
    early, late = sum(costs[10:60]), sum(costs[-50:])
    assert late <= 1.5 * early, (early, late)


async def test_a_held_snapshot_makes_the_count_of_seats_no_dearer(stage: Stage, connection: Any) -> None:
    """Rule 31: without the mark of seats each look at a key passes all the seats that it had before. Seats of
    other keys lie between them here: a hundred dead ones of a single key would be one page."""
    keys, rounds = [chr(number) for number in range(33, 127)], 60
    await submit_keyed(stage, *[keyed(key) for _ in range(rounds) for key in keys])
    other = await _connected(stage)
    try:
        async with connection.transaction(isolation="repeatable_read"):
            await connection.fetchval("select count(*) from hyrex.seat")
            costs = []
            for _ in range(rounds - 1):
                ended = await take(stage, len(keys))
                assert len(ended) == len(keys)
                await stage.ended([end_of(run, Outcome.COMPLETED) for run in ended])
                costs.append(await _buffers(other, *[run.task_id for run in ended]))
    finally:
        await other.close()
    early, late = sum(costs[5:15]), sum(costs[-10:])
    assert late <= 1.5 * early, (early, late)


async def test_a_held_snapshot_makes_later_submits_no_dearer(stage: Stage, connection: Any) -> None:
    """Rule 31: a broker remembers the marks of keys. Without them each submit passes all the seats that its
    keys had before, and what waited for these."""
    keys, rounds = [chr(number) for number in range(33, 127)], 40
    other = await _connected(stage)
    try:
        async with connection.transaction(isolation="repeatable_read"):
            await connection.fetchval("select count(*) from hyrex.seat")
            costs = []
            for _ in range(rounds):
                await submit_keyed(stage, *[keyed(key) for key in keys for _ in range(2)])
                for _ in range(2):
                    ended = await take(stage, len(keys))
                    assert len(ended) == len(keys)
                    await stage.ended([end_of(run, Outcome.COMPLETED) for run in ended])
                    await follow(stage, *[run.task_id for run in ended])
                costs.append(await _buffers_of_a_submit(other, stage, sorted(map(hashed, keys))))
    finally:
        await other.close()
    early, late = sum(costs[5:10]), sum(costs[-5:])
    assert late <= 1.5 * early, (early, late)


async def _buffers_of_a_submit(connection: Any, stage: Stage, hashes: list[int]) -> int:
    """How many pages admitting a task for each key reads; nothing is kept of it."""
    ids = ",".join(sorted(str(uuid4()) for _ in hashes))
    keys, marks = (",".join(map(str, each)) for each in (hashes, store_of(stage)._marks.of(hashes)))
    tried = connection.transaction()
    await tried.start()
    try:
        lines = await connection.fetch(
            "explain (analyze, buffers) select * from admit("
            f"'{{{ids}}}', '{{1}}', '{{5}}', '{{{keys}}}', '{{1}}', null, '{{{marks}}}', true)"
        )
    finally:
        await tried.rollback()
    return _pages(lines)


async def test_a_mark_of_a_time_that_a_failover_has_lost_hides_no_seat(stage: Stage) -> None:
    """Numbers of looks begin again where the last ones were lost."""
    assert await admissions(stage, keyed("a", 1)) == [Placing.READY]
    store_of(stage)._marks.note([hashed("a")], [2**62])
    assert await admissions(stage, keyed("a", 1)) == [Placing.BLOCKED]


async def _connected(stage: Stage) -> Any:
    other = await connect(stage.database.url)
    await other.execute(
        "set search_path = hyrex; set plan_cache_mode = force_generic_plan; set enable_seqscan = off"
    )
    return other
