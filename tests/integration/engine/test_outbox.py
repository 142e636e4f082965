"""The outbox: what committed becomes a task once, whatever is killed, and what rolled back never existed."""

import asyncio
import json
from typing import Any

import asyncpg
import pytest

from hyrex_broker.domain.errors import StorageUnavailable
from hyrex_broker.domain.model import TaskId
from hyrex_broker.domain.outbox import OPTIONS, CommitSnapshot, Cursor
from hyrex_broker.engine.outbox_passes import BATCH
from hyrex_broker.storage.columns import integers, texts
from hyrex_broker.storage.outbox_views import waiting_tasks
from hyrex_broker.storage.statements import load
from tests.integration.engine.bench import Bench, running_engine
from tests.integration.engine.outbox_calls import enqueue, enqueue_many, ids, relay_all, stilled
from tests.integration.engine.stored_rows import rows
from tests.integration.storage.stage import make_id

# In the server, since a statement waits for 2.5 s at most, however slow this process is.
END_WHO_WAITS = """
do $$
begin
  loop
    perform pg_stat_clear_snapshot();
    exit when (select count(pg_terminate_backend(pid)) from pg_stat_activity
               where wait_event_type = 'Lock' and datname = current_database()) > 0;
    perform pg_sleep(0.01);
  end loop;
end
$$
"""


async def test_what_a_transaction_enqueued_reaches_a_worker_after_its_commit(
    bench: Bench, caller: Any
) -> None:
    _, link = await bench.worker()
    async with caller.transaction():
        made = await enqueue(
            caller, max_retries=3, timeout_seconds=1.5, priority=7, headers={"a": "b"}, labels={"team": "x"}
        )
        assert await ids(bench) == []
    (run,) = await link.until_runs(1)
    assert (run.task_id, run.name, run.queue, run.payload) == (made, "work", "default", b'{"n": 1}')
    assert (run.max_retries, run.timeout_ms, run.headers) == (3, 1500, {"a": "b"})
    assert await rows(bench, "select rank, labels::text from task") == [(3, '{"team": "x"}')]
    assert await ids(bench, "outbox") == []


async def test_a_whole_number_may_be_written_with_a_point(bench: Bench, caller: Any) -> None:
    """As languages with one kind of number may have it in JSON."""
    relay = await stilled(bench)
    await relay.relay_next()
    await enqueue(caller, priority=7.0, max_retries=3.0)
    keyed = await enqueue(caller, priority=7.0, max_retries=3.0, idempotency_key="k")
    (waiting,) = await waiting_tasks(bench.database, [TaskId(keyed)], with_payload=False)
    assert repr((waiting.rank, waiting.max_retries)) == "(3, 3)"
    await relay_all(relay)
    assert await rows(bench, "select rank, max_retries from task") == [(3, 3), (3, 3)]


async def test_what_rolled_back_never_existed(bench: Bench, caller: Any) -> None:
    relay = await stilled(bench)
    await relay.relay_next()
    transaction = caller.transaction()
    await transaction.start()
    await enqueue(caller)
    await transaction.rollback()
    kept = await enqueue(caller)
    await relay_all(relay)
    assert await ids(bench) == [kept]


async def test_a_task_with_a_delay_waits_for_its_time(bench: Bench, caller: Any) -> None:
    relay = await stilled(bench)
    await relay.relay_next()
    later = await enqueue(caller, delay_seconds=3600)
    at = await enqueue(caller, run_at="2199-01-01T00:00:00Z")
    await relay_all(relay)
    assert await ids(bench, "delayed", "task_id") == sorted([later, at])
    ((left,),) = await rows(
        bench, "select extract(epoch from run_at - now())::float8 from delayed where task_id = $1", later
    )
    assert 3000 < left <= 3600


async def test_of_tasks_with_one_key_the_first_runs_and_the_others_say_so(bench: Bench, caller: Any) -> None:
    relay = await stilled(bench)
    await relay.relay_next()
    first = await enqueue(caller, idempotency_key="k")
    plain = await enqueue(caller)
    await relay_all(relay)
    again = await enqueue(caller, idempotency_key="k")
    won, lost = sorted([await enqueue(caller, idempotency_key="other") for _ in range(2)])
    await relay_all(relay)
    assert await ids(bench, "ready", "task_id") == sorted([first, plain, won])
    found = await rows(bench, "select task_id::text, outcome, final, reason from task_run")
    assert sorted(found) == sorted(
        [
            (again, 5, True, f"its idempotency key belongs to task {first}"),
            (lost, 5, True, f"its idempotency key belongs to task {won}"),
        ]
    )
    assert await ids(bench, "outbox") == []


async def test_a_task_that_expires_says_when_from_when_it_was_enqueued(bench: Bench, caller: Any) -> None:
    relay = await stilled(bench)
    await relay.relay_next()
    made = await enqueue(caller, expires_in_seconds=60)
    await relay_all(relay)
    found = await rows(
        bench,
        "select t.id::text, e.expires_at = t.expires_at, t.expires_at - t.submitted_at = interval '60 s'"
        " from task t join expiry e on e.task_id = t.id",
    )
    assert found == [(made, True, True)]


async def test_an_id_may_be_given_if_it_is_of_this_time(bench: Bench, caller: Any) -> None:
    relay = await stilled(bench)
    await relay.relay_next()
    mine = str(make_id())
    call = "select hyrex.enqueue_bytes('work', '{}', 'q', '{}', $1)"
    assert str(await caller.fetchval(call, mine)) == mine
    with pytest.raises(asyncpg.UniqueViolationError):
        await caller.fetchval(call, mine)
    with pytest.raises(asyncpg.InvalidParameterValueError, match="by the clock of the database"):
        await caller.fetchval(call, "0190a6f0-0000-7000-8000-000000000000")
    await relay_all(relay)
    await caller.fetchval(call, mine)  # the same id twice is one task
    await relay_all(relay)
    assert await ids(bench) == [mine] == await ids(bench, "ready", "task_id")
    assert await ids(bench, "outbox") == []


async def test_what_is_left_out_is_as_the_tasks_definition_says(bench: Bench, caller: Any) -> None:
    relay = await stilled(bench)
    await bench.database.execute("insert into task_definition values (0, 'work', 'mails', 4, 2000, 8)")
    await relay.relay_next()
    await enqueue(caller)
    await enqueue(caller, queue="own", priority=1, max_retries=0)
    await relay_all(relay)
    found = await rows(
        bench,
        "select queue, rank, max_retries, timeout_ms from task join lane on lane.id = lane order by 1",
    )
    assert found == [("mails", 2, 4, 2000), ("own", 9, 0, 2000)]


async def test_a_transaction_that_commits_late_is_not_passed_over(
    bench: Bench, caller: Any, second: Any
) -> None:
    """It is read by its name, as one that was in progress at the last look."""
    relay = await stilled(bench)
    slow = caller.transaction()
    await slow.start()
    late = [await enqueue(caller)]
    await relay.relay_next()
    quick = await enqueue(second)
    await relay_all(relay)
    assert await ids(bench) == [quick]
    late.append(await enqueue(caller))
    await slow.commit()
    await relay_all(relay)
    assert await ids(bench) == sorted([quick, *late])


async def test_more_than_one_look_reads_are_relayed_and_so_is_what_commits_meanwhile(
    bench: Bench, caller: Any, second: Any
) -> None:
    relay = await stilled(bench)
    await relay.relay_next()
    slow = second.transaction()
    await slow.start()
    await enqueue_many(second, BATCH + 10)
    await enqueue_many(caller, BATCH + 10)
    assert await relay.relay_next() == BATCH
    await slow.commit()
    await enqueue(caller)
    await relay_all(relay)
    await relay_all(relay)
    assert await rows(bench, "select count(*) from task") == [(2 * BATCH + 21,)]
    assert await ids(bench, "outbox") == []


async def test_of_several_large_transactions_that_commit_late_no_row_is_passed_over(
    bench: Bench, caller: Any, second: Any
) -> None:
    """What one look leaves of the first of them, the next one reads, and not the look from the beginning."""
    relay = await stilled(bench)
    slow = [caller.transaction(), second.transaction()]
    for transaction, connection in zip(slow, (caller, second), strict=True):
        await transaction.start()
        await enqueue_many(connection, BATCH + 10)
    # A snapshot names what is in progress up to what was last completed.
    await bench.database.execute("insert into queue (namespace, name) values (0, 'later')")
    await relay.relay_next()
    for transaction in slow:
        await transaction.commit()
    assert await relay.relay_next() == BATCH
    await relay_all(relay)
    assert await ids(bench, "outbox") == []
    assert await rows(bench, "select count(*) from task") == [(2 * BATCH + 20,)]


async def test_two_brokers_that_relay_at_once_make_each_task_once(
    bench: Bench, storage_url: str, caller: Any
) -> None:
    relay = await stilled(bench)
    async with running_engine(storage_url) as other:
        both = relay, await stilled(other)
        for each in both:
            await each.relay_next()
        await enqueue_many(caller, 3 * BATCH)
        async with asyncio.timeout(60):
            while await ids(bench, "outbox"):
                await asyncio.gather(*[each.relay_next() for each in both * 3])
                for each in both:
                    await each.look_below()
    assert await rows(bench, "select count(*) from task") == [(3 * BATCH,)]
    assert await rows(bench, "select count(*) from ready") == [(3 * BATCH,)]


async def test_a_connection_that_ends_while_tasks_are_made_leaves_all_or_nothing(
    bench: Bench, caller: Any, second: Any
) -> None:
    relay = await stilled(bench)
    await relay.relay_next()
    made = [await enqueue(caller) for _ in range(3)]
    holder = second.transaction()
    await holder.start()
    # The statement waits for this id when it has taken its rows, and before it has stored all tasks.
    await second.execute("insert into ready select $1, 1, 5, now(), 0, 0, 0, 0, false", made[1])
    ending = asyncio.ensure_future(caller.execute(END_WHO_WAITS))
    relaying = asyncio.ensure_future(relay.relay_next())
    await ending
    with pytest.raises(StorageUnavailable):
        await relaying
    await holder.rollback()
    assert await ids(bench) == []
    assert await ids(bench, "outbox") == sorted(made)
    await relay_all(relay)
    assert await ids(bench) == sorted(made) == await ids(bench, "ready", "task_id")


async def test_what_a_broker_left_is_found_by_the_next_one(
    bench: Bench, caller: Any, storage_url: str
) -> None:
    await stilled(bench)
    made = [await enqueue(caller), await enqueue(caller)]
    async with running_engine(storage_url) as other:
        _, link = await other.worker()
        assert sorted(run.task_id for run in await link.until_runs(2)) == sorted(made)
        assert other.engine.relay is not bench.engine.relay


async def test_a_look_reads_no_dead_rows_of_the_past(bench: Bench, caller: Any, second: Any) -> None:
    """Rule 31: a snapshot that is held keeps dead rows from being removed, and a look passes none of them."""
    relay = await stilled(bench)
    await relay.relay_next()
    held = second.transaction(isolation="repeatable_read")
    await held.start()
    await second.execute("create temporary table mine (n integer)")  # it has an id, and may be seen for long
    for _ in range(3):
        await enqueue_many(caller, 2000)
        # Postgres does it by itself at some time: all rows are of one transaction, then none of them is left.
        await caller.execute("analyze outbox")
        await relay_all(relay)
    last = await enqueue(caller)
    cursor = relay.passes.cursor
    assert cursor is not None
    plain = await _pages_of_a_look(bench, cursor)
    whole = await _pages_of_a_look(bench, Cursor(CommitSnapshot((), 0)))
    assert whole > 300, "there are no dead rows to pass"
    # Some pages of them may be looked at: of what was enqueued while transactions of other databases went on.
    assert plain < whole / 3, "a look passed the dead rows of what was relayed"
    await relay_all(relay)
    assert last in await ids(bench)
    await held.rollback()


async def _pages_of_a_look(bench: Bench, cursor: Cursor) -> int:
    """How many pages a look from there reads."""
    begins = cursor.begins()
    values = (
        integers(cursor.since.running), cursor.late.xid, cursor.late.row_id, begins.xid, begins.row_id, BATCH,
        texts(OPTIONS),
    )  # fmt: skip
    sql = load("outbox")["look"]
    for number, value in reversed(list(enumerate(values, 1))):
        sql = sql.replace(f"${number}", f"'{value}'")
    ((plan,),) = await bench.database.fetch(f"explain (analyze, buffers, format json) {sql}")
    found = json.loads(plan)[0]["Plan"]
    return int(found["Shared Hit Blocks"] + found["Shared Read Blocks"])
