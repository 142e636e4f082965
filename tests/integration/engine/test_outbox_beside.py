"""An outbox in a database beside the broker's: each row becomes a task once, whatever is lost in between."""

import asyncio
import json
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import suppress
from typing import Any

import asyncpg
import pytest

from hyrex_broker.connected import _connect_carrier
from hyrex_broker.domain.counters import Counters
from hyrex_broker.domain.errors import SchemaOutOfRange, StorageUnavailable
from hyrex_broker.domain.model import CancelOutcome, TaskId
from hyrex_broker.engine.beside import Carrier
from hyrex_broker.storage.beside import CarriedStore, OutboxBeside
from hyrex_broker.storage.grants import EnqueueGrants
from hyrex_broker.storage.migrate import migrate
from hyrex_broker.storage.outbox_install import OutboxGrants, install
from hyrex_broker.storage.preflight import check_outbox
from hyrex_broker.storage.reads import TaskReads
from hyrex_broker.storage.sqlstates import StatementRefused
from tests.integration.engine.bench import Bench, running_engine
from tests.integration.engine.outbox_calls import enqueue, enqueue_many, ids, relay_all, stilled
from tests.integration.storage.stage import make_id
from tests.support.ports import free_port
from tests.support.postgres import connect
from tests.support.roles import role_of, role_with_few_rights

HELD_BY_NOBODY = "postgresql://nobody@127.0.0.1:{port}/none?connect_timeout=2"


class _Killed(Exception):
    pass


class Both:
    """A bench, and a carrier whose steps the test takes."""

    def __init__(self, bench: Bench, url: str) -> None:
        self.bench = bench
        self.beside = OutboxBeside(url, "hyrex", Counters())
        self.store = CarriedStore(bench.database)
        self.carrier = Carrier(self.beside, self.store)

    async def killed_between(self, row_ids: Sequence[str], *, is_stored: bool = True) -> None:
        """Take rows, and store them here if wanted, and never commit that they are removed there."""
        with suppress(_Killed):
            async with self.beside.taking([TaskId(row_id) for row_id in row_ids]) as taken:
                if is_stored:
                    await self.store.carry(taken)
                raise _Killed

    async def carry_all(self) -> None:
        """Until a look finds nothing."""
        while await self.carrier.carry_next():
            pass


@pytest.fixture
async def beside_url(empty_database_url: str) -> str:
    await install(empty_database_url)
    return empty_database_url


@pytest.fixture
async def caller(beside_url: str) -> AsyncIterator[Any]:
    connection = await connect(beside_url)
    yield connection
    await connection.close()


@pytest.fixture
async def both(bench: Bench, beside_url: str) -> AsyncIterator[Both]:
    await stilled(bench)
    both = Both(bench, beside_url)
    yield both
    await both.beside.close()


async def left(caller: Any) -> list[str]:
    return [row[0] for row in await caller.fetch("select id::text from hyrex.outbox order by 1")]


async def test_what_committed_beside_runs_and_what_rolled_back_never_existed(
    storage_url: str, beside_url: str, caller: Any
) -> None:
    async with running_engine(storage_url, outbox_url=beside_url) as bench:
        _, link = await bench.worker()
        transaction = caller.transaction()
        await transaction.start()
        await enqueue(caller)
        await transaction.rollback()
        async with caller.transaction():
            made = await enqueue(caller, max_retries=3, delay_seconds=0, headers={"a": "b"})
        (run,) = await link.until_runs(1)
        assert (run.task_id, run.name, run.payload, run.max_retries, run.headers) == (
            made, "work", b'{"n": 1}', 3, {"a": "b"},
        )  # fmt: skip
        assert await ids(bench) == [made]
    assert await left(caller) == []


async def test_a_row_whose_removal_was_lost_is_carried_once(both: Both, caller: Any) -> None:
    """Its broker was killed between the two commits, and the task has ended and is forgotten since."""
    await both.carrier.carry_next()
    made = await enqueue(caller)
    await both.killed_between([made])
    relay = both.bench.engine.relay
    await relay_all(relay)
    assert await ids(both.bench) == [made]
    await both.bench.database.execute("delete from ready")
    await both.bench.database.execute("delete from task")
    assert await left(caller) == [made]
    await both.carry_all()
    await relay_all(relay)
    assert (await left(caller), await ids(both.bench)) == ([], [])


async def test_what_was_not_stored_here_stays_there(both: Both, caller: Any) -> None:
    await both.carrier.carry_next()
    made = await enqueue(caller)
    await both.killed_between([made], is_stored=False)
    assert await left(caller) == [made]
    await both.carry_all()
    assert (await left(caller), await ids(both.bench, "outbox")) == ([], [made])


async def test_brokers_share_the_rows(both: Both, caller: Any, beside_url: str) -> None:
    other = Both(both.bench, beside_url)
    for each in (both, other):
        await each.carrier.carry_next()
    await enqueue_many(caller, 1500)
    expected = await left(caller)
    await asyncio.gather(both.carry_all(), other.carry_all())
    for each in (both, other):
        await each.carrier.look_below()
        await each.carry_all()
    await other.beside.close()
    assert await left(caller) == []
    assert await ids(both.bench, "outbox") == expected


async def test_rows_are_forgotten_when_they_can_come_no_more(both: Both, caller: Any) -> None:
    await both.carrier.carry_next()
    made, again = [await enqueue(caller) for _ in range(2)]
    await both.killed_between([again])
    async with both.beside.taking([TaskId(made)]) as taken:
        await both.store.carry(taken)
    await both.carrier.forget()
    assert await ids(both.bench, "carried") == sorted([made, again])
    await both.bench.database.execute("update carried set carried_at = now() - interval '1 hour'")
    await both.carrier.forget()
    # What was still there was carried once more, which removed it.
    assert (await left(caller), await ids(both.bench, "outbox")) == ([], sorted([made, again]))
    await both.carrier.forget()
    assert await ids(both.bench, "carried") == []


async def test_a_transaction_that_commits_late_is_found_by_the_next_look(
    both: Both, caller: Any, beside_url: str
) -> None:
    await both.carrier.carry_next()
    late = await connect(beside_url)
    async with late.transaction():
        first = await enqueue(late)
        second = await enqueue(caller)
        await both.carry_all()
        assert await ids(both.bench, "outbox") == [second]
    await late.close()
    await both.carrier.carry_next()
    assert await ids(both.bench, "outbox") == sorted([first, second])


async def test_a_look_reads_no_rows_of_before_that_a_held_snapshot_keeps(
    both: Both, caller: Any, beside_url: str
) -> None:
    await both.carrier.carry_next()
    holder = await connect(beside_url)
    async with holder.transaction(isolation="repeatable_read"):
        await holder.fetchval("select 1")
        await enqueue_many(caller, 4000)
        await both.carry_all()
        await enqueue(caller)
        cursor = both.carrier.passes.cursor
        assert cursor is not None
        before = await _pages(caller)
        assert len((await both.beside.look(cursor, 1000)).rows) == 1
        assert await _pages(caller) - before < 60
    await holder.close()


async def _pages(connection: Any) -> int:
    """How many pages of the outbox and its indexes were read, once the other sessions have told."""
    await connection.execute("select pg_stat_clear_snapshot()")
    sql = (
        "select sum(heap_blks_hit + heap_blks_read + idx_blks_hit + idx_blks_read)::bigint"
        " from pg_statio_all_tables where relname = 'outbox'"
    )
    return int(await connection.fetchval(sql))


async def test_a_task_enqueued_beside_is_known_by_its_id_from_its_commit_on(both: Both, caller: Any) -> None:
    bench = both.bench
    _connect_carrier(both.carrier, bench.engine, bench.database)
    reads = TaskReads(bench.database)
    made = [TaskId(await enqueue(caller)) for _ in range(3)]
    view = await reads.task(made[0])
    assert view is not None
    assert view.in_outbox
    assert await reads.queues_of([made[1]]) == {made[1]: "default"}
    assert await bench.engine.cancels.cancel([made[2]], "") == [CancelOutcome.CANCELLED]
    assert await reads.task(TaskId(str(make_id()))) is None
    assert await left(caller) == []


async def test_while_it_is_away_nothing_else_waits_and_nobody_is_told_that_there_is_no_task(
    storage_url: str,
) -> None:
    url = HELD_BY_NOBODY.format(port=free_port())
    async with running_engine(storage_url, outbox_url=url) as bench:
        connection = await connect(storage_url)
        own = await enqueue(connection)
        await connection.close()
        _, link = await bench.worker()
        assert [run.task_id for run in await link.until_runs(1)] == [own]
        with pytest.raises(StorageUnavailable, match="may be, is away"):
            await TaskReads(bench.database).task(TaskId(str(make_id())))
        assert await TaskReads(bench.database).task(TaskId(own)) is not None


async def test_the_outbox_is_made_once_and_by_its_name_only(
    empty_database_url: str, storage_url: str
) -> None:
    with pytest.raises(SchemaOutOfRange, match="hyrex outbox install"):
        await check_outbox(empty_database_url, "hyrex")
    assert await install(empty_database_url) == await install(empty_database_url) == 1
    await check_outbox(empty_database_url, "hyrex")
    with pytest.raises(SchemaOutOfRange, match="'outbox_version' that is not Hyrex's"):
        await migrate(empty_database_url)
    for refused in (install(storage_url), check_outbox(storage_url, "hyrex")):
        with pytest.raises(SchemaOutOfRange, match="brokers"):
            await refused
    connection = await connect(empty_database_url)
    await connection.execute("create schema shop; create table shop.outbox (id integer)")
    with pytest.raises(SchemaOutOfRange, match="table outbox that is not Hyrex's"):
        await install(empty_database_url, "shop")
    await connection.execute("update hyrex.outbox_version set number = 2")
    await connection.close()
    with pytest.raises(SchemaOutOfRange, match="version 2"):
        await install(empty_database_url)


@pytest.fixture
def broker_url(empty_database_url: str) -> Iterator[str]:
    with role_with_few_rights(empty_database_url) as url:
        yield url


@pytest.fixture
def shop_url(empty_database_url: str) -> Iterator[str]:
    with role_with_few_rights(empty_database_url) as url:
        yield url


async def test_a_brokers_role_and_an_applications_need_no_more_than_they_are_given(
    bench: Bench, broker_url: str, shop_url: str, caller: Any, beside_url: str
) -> None:
    await stilled(bench)
    outbox_role = "outbox_of_" + role_of(shop_url)
    await caller.execute(f"create role {outbox_role} nologin")
    grants = EnqueueGrants(outbox_role, role_of(shop_url))
    await install(beside_url, allowed=OutboxGrants(role_of(broker_url), grants))
    shop = await connect(shop_url)
    made = await enqueue(shop)
    for beyond in ("outbox", "outbox_version"):
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await shop.execute(f"select from hyrex.{beyond}")
    await shop.close()
    both = Both(bench, broker_url)
    await both.carrier.look_below()
    await both.carry_all()
    assert await ids(bench, "outbox") == [made]
    await both.beside.refuse(TaskId(await enqueue(caller)), "for this test")
    await both.beside.close()
    await caller.execute(f"reassign owned by {outbox_role} to current_user")
    await caller.execute(f"drop owned by {outbox_role}; drop role {outbox_role}")


async def test_options_that_are_no_object_are_refused_by_the_table_itself(caller: Any, both: Both) -> None:
    """Whoever may insert rows himself would make every look of a broker fail."""
    row = "insert into hyrex.outbox (id, task, payload, options) values (gen_random_uuid(), 'a', '', '[]')"
    with pytest.raises(asyncpg.CheckViolationError):
        await caller.execute(row)
    with pytest.raises(StatementRefused):
        await both.bench.database.execute(row)


NESTED = "(repeat('{\"labels\":', 3000) || '1' || repeat('}', 3000))::jsonb"


async def test_a_row_that_its_owner_inserted_himself_harms_no_other(both: Both, caller: Any) -> None:
    """No task can be made of any of these, and some ended the broker, or held up the rows of everybody."""
    await both.carrier.carry_next()
    row = (
        "insert into hyrex.outbox (id, task, queue, payload, options, run_at) values ($1, $2, $3, '', $4, {})"
    )
    bad: list[tuple[str | None, dict[str, Any], str]] = [
        *[(None, {}, time) for time in ("'20000-01-01'", "'4000-01-01 BC'", "'infinity'", "'-infinity'")],
        ("ffffffff-ffff-ffff-ffff-ffffffffffff", {}, "null"),
        (None, {"task": ""}, "null"),
        (None, {"task": "x" * 256}, "null"),
        (None, {"queue": ""}, "null"),
        (None, {"timeout_seconds": "NaN"}, "null"),
        (None, {"priority": 1.5}, "null"),
        (None, {"max_retries": True}, "null"),
        (None, {"headers": []}, "null"),
        (None, {"labels": {"a": 1}}, "null"),
        (None, {"parent_id": "none"}, "null"),
        (None, {"trace_context": "zz"}, "null"),
        (None, {"concurrency_key": []}, "null"),
    ]
    for row_id, said, run_at in bad:
        options = {**said}
        named = options.pop("task", "work"), options.pop("queue", None)
        await caller.execute(row.format(run_at), row_id or make_id(), *named, json.dumps(options))
    await caller.execute(row.format("null").replace("$4", NESTED), make_id(), "work", None)
    good = [await enqueue(caller) for _ in range(2)]
    await both.carry_all()
    await relay_all(both.bench.engine.relay)
    assert await ids(both.bench) == sorted(good)
    assert await ids(both.bench, "outbox") == []
    held = await caller.fetch("select held, reason from hyrex.outbox")
    assert len(held) == len(bad) + 1
    assert {each["held"] for each in held} == {"refused"}
    assert all(each["reason"].startswith("it cannot be carried") for each in held)
