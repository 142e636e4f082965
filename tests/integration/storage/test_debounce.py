"""Debounce keys: a task that waits is moved, one that may run is left alone (rule 35)."""

import asyncio
from datetime import timedelta
from statistics import median
from typing import Any

from hyrex_broker.domain.model import Outcome, TaskExtras, TaskId
from hyrex_broker.domain.states import TaskState
from hyrex_broker.storage.debounce import Debounced, DebounceStore
from hyrex_broker.storage.statements import load
from tests.integration.storage.stage import ZERO, NewTask, Stage, make_id, new_task
from tests.integration.storage.waits import until_blocked
from tests.support.postgres import connect

HOUR_MS = 3_600_000
SLACK = timedelta(seconds=1)
"""By so much a long wait may be longer."""


def debounced(
    key: str = "doc-7", delay_ms: int = HOUR_MS, most_ms: int | None = None, **changes: Any
) -> NewTask:
    extras = TaskExtras(delay_ms=delay_ms, debounce_key=key, debounce_most_ms=most_ms)
    return new_task(extras=extras, **changes)


async def sent(stage: Stage, *tasks: NewTask) -> Debounced:
    return await DebounceStore(stage.database).submit(await stage.batch(tasks))


async def left_of(stage: Stage, task: NewTask) -> timedelta:
    """How long it still waits."""
    left = await stage.execute("select run_at - now() from delayed where task_id = $1", task.task_id)
    assert isinstance(left, timedelta)
    return left


async def make_due(stage: Stage) -> None:
    await stage.execute("update delayed set run_at = now() - interval '1 second'")


def holders(done: Debounced) -> set[TaskId]:
    return {hit.task_id for hit in done.moved.values()}


async def test_a_second_send_moves_the_first_task_and_stores_nothing(stage: Stage) -> None:
    first, second = debounced(), debounced(delay_ms=3 * HOUR_MS)
    assert len((await sent(stage, first)).stored) == 1
    done = await sent(stage, second)
    assert (done.stored, holders(done)) == (set(), {first.task_id})
    assert await left_of(stage, first) > timedelta(hours=2, minutes=59)
    assert await stage.execute("select count(*) from task") == 1
    assert [hit.holder.payload_differs for hit in done.moved.values()] == [False]
    other = await sent(stage, debounced(payload=b"[]"))
    assert [hit.holder.payload_differs for hit in other.moved.values()] == [True]


async def test_keys_and_names_are_apart(stage: Stage) -> None:
    tasks = [debounced(), debounced("doc-8"), debounced(name="other")]
    assert len((await sent(stage, *tasks)).stored) == 3


async def test_a_send_for_another_queue_moves_nothing(stage: Stage) -> None:
    """Its sender may have no right to that queue, and would put off what waits there for ever (rule 39)."""
    first, second, third = debounced(), debounced(queue="other"), debounced(queue="other")
    await sent(stage, first)
    assert len((await sent(stage, second)).stored) == 1
    assert holders(await sent(stage, third)) == {second.task_id}
    assert holders(await sent(stage, debounced())) == {first.task_id}


async def test_tasks_of_one_batch_move_each_other(stage: Stage) -> None:
    tasks = sorted([debounced(), debounced(), debounced()], key=lambda task: task.task_id)
    tasks[0].payload = b"first"
    done = await sent(stage, *tasks)
    assert len(done.stored) == 1
    assert len(done.moved) == 2
    assert holders(done) == {tasks[0].task_id}
    assert [hit.holder.payload_differs for hit in done.moved.values()] == [True, True]


async def test_of_one_batch_the_last_send_says_how_long_the_task_waits(stage: Stage) -> None:
    ids = sorted(make_id() for _ in range(5))
    first, second, third, fourth, fifth = (
        debounced(task_id=task_id, delay_ms=hours * HOUR_MS)
        for task_id, hours in zip(ids, (1, 9, 3, 8, 5), strict=True)
    )
    assert holders(await sent(stage, first, second, third)) == {first.task_id}
    assert timedelta(hours=2) < await left_of(stage, first) <= timedelta(hours=3)
    assert holders(await sent(stage, third, fourth, fifth)) == {first.task_id}
    assert timedelta(hours=4) < await left_of(stage, first) <= timedelta(hours=5) + SLACK


async def test_sends_in_quick_succession_write_nothing(stage: Stage) -> None:
    """The first of them lets the task wait a little longer than it must, and never past its longest wait."""
    await sent(stage, debounced(), debounced("bounded", most_ms=2 * HOUR_MS + 500))
    async with stage.database.transaction() as transaction:  # in which no time passes
        store = DebounceStore(transaction)

        async def waits_after(delay_ms: int) -> list[tuple[Any, ...]]:
            tasks = [debounced(key, delay_ms) for key in ("doc-7", "bounded")]
            assert len((await store.submit(await stage.batch(tasks))).moved) == 2
            return [tuple(row) for row in await transaction.fetch(_WAITS)]

        moved = await waits_after(2 * HOUR_MS)
        (bounded, past, _), (free, _, _) = moved
        assert timedelta(hours=2) < free <= timedelta(hours=2) + SLACK
        assert not past
        assert bounded <= timedelta(hours=2, milliseconds=500)
        assert await waits_after(2 * HOUR_MS) == moved
        assert await waits_after(HOUR_MS) != moved


_WAITS = """
select run_at - now(), run_at > latest_at, w.ctid
from debounce d join delayed w using (task_id) order by key
"""


async def test_a_held_snapshot_makes_later_moves_no_dearer(stage: Stage, connection: Any) -> None:
    """Rule 31. Many keys, since the dead rows of a single one lie on few pages."""
    keys = [f"doc-{number}" for number in range(50)]
    await sent(stage, *map(debounced, keys))
    other = await connect(stage.database.url)
    try:
        await other.execute("set search_path = hyrex; set enable_seqscan = off; set enable_bitmapscan = off")
        async with connection.transaction(isolation="repeatable_read"):
            await connection.fetchval("select count(*) from hyrex.delayed")
            costs = [await _pages(other, keys) for _ in range(40)]
    finally:
        await other.close()
    # Once a second there is a round that moves them.
    early, late = median(costs[5:15]), median(costs[-10:])
    assert late <= 1.5 * early, (early, late)


async def _pages(connection: Any, keys: list[str]) -> int:
    """How many pages sends with these keys read, by EXPLAIN."""
    sends = ",".join(f"('{make_id()}'::uuid, '{key}')" for key in keys)
    lines = await connection.fetch(
        "explain (analyze, buffers, format text) select d.*"
        f" from (select array_agg(id) as ids, array_agg(key) as keys from (values {sends}) as s (id, key)) s"
        " cross join lateral (select cardinality(ids) as size) c"
        " cross join lateral take_debounce_keys("
        " ids, array_fill(0, array[size]), array_fill(5::smallint, array[size]),"
        f" array_fill('{{}}'::bytea, array[size]), array_fill({2 * HOUR_MS}::bigint, array[size]), null,"
        " array_fill('default'::text, array[size]), array_fill('work'::text, array[size]), keys) d"
    )
    first = next(line[0] for line in lines if "Buffers:" in line[0])
    return sum(int(part.partition("=")[2]) for part in first.split() if part.startswith(("hit=", "read=")))


async def test_many_sends_of_one_batch_and_key_move_the_task_once(stage: Stage) -> None:
    """Each move leaves a dead row in the way of the next: a thousand took over a second."""
    await sent(stage, debounced(payload=b"[0]"))
    counted = "select n_tup_ins + n_tup_upd from pg_stat_xact_user_tables where relname = 'delayed'"
    batch = await stage.batch([debounced() for _ in range(200)])
    async with stage.database.transaction() as transaction:
        (before,) = await transaction.fetch(counted)
        assert len((await DebounceStore(transaction).submit(batch)).moved) == 200
        (after,) = await transaction.fetch(counted)
    assert after[0] - before[0] <= 1


async def test_max_wait_bounds_what_sends_can_move(stage: Stage) -> None:
    first = debounced(most_ms=2 * HOUR_MS)
    await sent(stage, first)
    await sent(stage, debounced(delay_ms=9 * HOUR_MS, most_ms=9 * HOUR_MS))
    left = await left_of(stage, first)
    assert timedelta(hours=1, minutes=59) < left <= timedelta(hours=2)
    await stage.execute("update debounce set latest_at = now() - interval '1 second'")
    await sent(stage, debounced())
    assert await left_of(stage, first) <= timedelta(0)


async def test_once_it_may_run_the_next_one_begins_anew(stage: Stage) -> None:
    first, second, third = debounced(most_ms=HOUR_MS), debounced(), debounced(delay_ms=5 * HOUR_MS)
    await sent(stage, first)
    await make_due(stage)
    await stage.promotes.promote(ZERO, 10)
    assert len((await sent(stage, second)).stored) == 1
    assert await stage.state(first.task_id) is TaskState.QUEUED
    assert holders(await sent(stage, third)) == {second.task_id}
    assert await left_of(stage, second) > timedelta(hours=4)  # the first one's longest wait was its own


async def test_a_task_that_waits_for_a_retry_is_not_moved(stage: Stage) -> None:
    first = debounced(max_retries=1)
    await sent(stage, first)
    await make_due(stage)
    await stage.promotes.promote(ZERO, 10)
    (run,) = await stage.assign(await stage.session())
    await stage.end(run, Outcome.FAILED, retry_delay_ms=HOUR_MS)
    before = await stage.execute("select run_at from delayed")
    assert len((await sent(stage, debounced(delay_ms=2 * HOUR_MS))).stored) == 1
    assert await stage.execute("select run_at from delayed where task_id = $1", first.task_id) == before


async def test_a_repeated_send_changes_nothing(stage: Stage) -> None:
    first, second = debounced(), debounced("other")
    await sent(stage, first, second)
    before = await stage.execute("select array_agg(run_at order by run_at) from delayed")
    done = await sent(stage, first, second)
    assert (done.stored, done.moved) == (set(), {})
    assert await stage.execute("select array_agg(run_at order by run_at) from delayed") == before


async def test_two_senders_at_once_make_one_task(stage: Stage, rival: Stage) -> None:
    tasks = [debounced() for _ in range(40)]
    await rival.lane()
    both = [sent(side, task) for task, side in zip(tasks, [stage, rival] * 20, strict=True)]
    done = await asyncio.gather(*both)
    assert sum(len(each.stored) for each in done) == 1
    assert await stage.execute("select count(*) from delayed") == 1
    (left,) = await stage.database.fetch("select task_id::text from delayed")
    assert {holder for each in done for holder in holders(each)} == {left["task_id"]}


async def test_a_sender_that_waited_for_another_sees_what_that_one_moved(
    stage: Stage, connection: Any
) -> None:
    """Its statement began before the other's commit: by that snapshot the task waits nowhere."""
    first = debounced()
    await sent(stage, first)
    async with connection.transaction():
        await connection.execute("select from debounce for update")
        waiting = asyncio.create_task(sent(stage, debounced(delay_ms=2 * HOUR_MS)))
        await until_blocked(connection)
        await connection.execute(
            "with gone as (delete from delayed returning *) insert into delayed select * from gone"
        )
    done = await waiting
    assert (done.stored, holders(done)) == (set(), {first.task_id})
    assert await stage.execute("select count(*) from delayed") == 1


async def test_a_task_that_the_promoter_holds_is_not_moved(stage: Stage, connection: Any) -> None:
    """The sender waits for nobody, and begins a new task."""
    first, second = debounced(), debounced()
    await sent(stage, first)
    await make_due(stage)
    async with connection.transaction():
        await connection.fetch(load("promote")["promote"], ZERO, 10)
        async with asyncio.timeout(60):
            assert len((await sent(stage, second)).stored) == 1
    assert await stage.state(first.task_id) is TaskState.QUEUED
    assert await stage.state(second.task_id) is TaskState.SCHEDULED


async def test_the_promoter_passes_over_a_task_that_a_sender_moves(stage: Stage, connection: Any) -> None:
    first = debounced()
    await sent(stage, first)
    await make_due(stage)
    async with connection.transaction():
        await connection.execute(
            "with gone as (delete from delayed returning *)"
            " insert into delayed"
            " select task_id, lane, rank, now() + interval '1 hour', 0, 0, 0, 0, false from gone"
        )
        assert await stage.promotes.promote(ZERO, 10) == []
    assert await stage.promotes.promote(ZERO, 10) == []
    assert await stage.state(first.task_id) is TaskState.SCHEDULED


async def test_a_cancel_beside_a_sender_takes_the_task_where_it_was_moved(
    stage: Stage, connection: Any
) -> None:
    """Its statement finds that the row is gone; whoever asked looks where the task stands, and asks again."""
    first = debounced()
    await sent(stage, first)
    async with connection.transaction():
        await connection.execute(
            "with gone as (delete from delayed returning *) insert into delayed select * from gone"
        )
        cancelling = asyncio.create_task(stage.cancels.cancel([first.task_id], "enough"))
        await until_blocked(connection)
    assert await cancelling == []
    (standing,) = await stage.cancels.standing([first.task_id])
    assert standing.live
    assert len(await stage.cancels.cancel([first.task_id], "enough")) == 1
    assert len((await sent(stage, debounced())).stored) == 1


async def test_a_sender_waits_for_no_cancel(stage: Stage, connection: Any) -> None:
    first = debounced()
    await sent(stage, first)
    async with connection.transaction():
        await connection.fetch(load("cancel")["cancel"], [first.task_id], "enough")
        async with asyncio.timeout(60):
            assert len((await sent(stage, debounced())).stored) == 1
    assert await stage.state(first.task_id) is TaskState.CANCELLED
