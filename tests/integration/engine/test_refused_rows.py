"""Refused rows of both outboxes: found by whoever asks, tried again where they are, gone after their term."""

import asyncio
import logging
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import pytest

from hyrex_broker.connected import _connect_carrier
from hyrex_broker.domain.counters import Counters
from hyrex_broker.domain.errors import StorageUnavailable
from hyrex_broker.domain.model import CancelOutcome, TaskId
from hyrex_broker.domain.outbox import RetryRowOutcome, RowChange
from hyrex_broker.domain.rights import ANYONE, Caller, Scope
from hyrex_broker.engine.beside import Carrier
from hyrex_broker.engine.refused_rows import RefusedRows
from hyrex_broker.storage.beside import CarriedStore, OutboxBeside
from hyrex_broker.storage.outbox_install import install
from hyrex_broker.storage.reads import FULL, WATCHED, TaskReads
from tests.integration.engine.bench import Bench
from tests.integration.engine.outbox_calls import enqueue, ids, relay_all, stilled
from tests.integration.engine.stored_rows import rows
from tests.integration.storage.stage import make_id
from tests.support.ports import free_port
from tests.support.postgres import connect

KEEP = timedelta(days=30)
BAD_PRIORITY = "it cannot be carried (its option priority has a value that hyrex.enqueue refuses)"


class Both:
    """A bench whose relay the test drives, with an outbox beside its database and a row that is refused in
    each."""

    def __init__(self, bench: Bench, url: str) -> None:
        self.bench = bench
        self.beside = OutboxBeside(url, "hyrex", Counters())
        self.carrier = Carrier(self.beside, CarriedStore(bench.database))
        self.refused = RefusedRows(bench.database, bench.engine.relay, self.carrier, KEEP)
        self.reads = TaskReads(bench.database)
        _connect_carrier(self.carrier, bench.engine, bench.database)


@pytest.fixture
async def shop(empty_database_url: str) -> AsyncIterator[Any]:
    await install(empty_database_url)
    connection = await connect(empty_database_url)
    yield connection
    await connection.close()


@pytest.fixture
async def both(bench: Bench, shop: Any, empty_database_url: str) -> AsyncIterator[Both]:
    await stilled(bench)
    both = Both(bench, empty_database_url)
    await both.carrier.carry_next()
    await bench.engine.relay.relay_next()
    yield both
    await both.beside.close()


async def refused_here(bench: Bench, caller: Any, **options: Any) -> TaskId:
    made = TaskId(await enqueue(caller, **options))
    await caller.execute("update outbox set options = options || '{\"later\": 1}' where id = $1", made)
    await relay_all(bench.engine.relay)
    return made


async def refused_there(both: Both, shop: Any, queue: str | None = "mail") -> TaskId:
    row_id = TaskId(str(make_id()))
    await shop.execute(
        "insert into hyrex.outbox (id, task, queue, payload, options)"
        " values ($1, 'work', $2, '{\"n\": 1}', '{\"priority\": 1.5}')",
        row_id,
        queue,
    )
    while await both.carrier.carry_next():
        pass
    return row_id


async def test_rows_of_both_are_one_list(both: Both, shop: Any, caller: Any) -> None:
    here = [await refused_here(both.bench, caller) for _ in range(2)]
    there = [await refused_there(both, shop), await refused_there(both, shop, None)]
    await both.bench.database.execute("insert into task_definition values (0, 'work', 'own', 4, 2000, 8)")
    page = await both.refused.page(None, 10)
    assert [row.row_id for row in page.rows] == sorted([*here, *there], reverse=True)
    assert {(row.queue, row.beside, row.reason) for row in page.rows if row.beside} == {
        ("mail", True, BAD_PRIORITY),
        ("own", True, BAD_PRIORITY),
    }
    rest = await both.refused.page(page.rows[1].row_id, 1)
    assert rest.rows == page.rows[2:3]


async def test_a_frame_of_the_cluster_says_which_queues_lack_tasks_for_rows_of_both(
    both: Both, shop: Any, caller: Any
) -> None:
    await both.bench.database.execute("insert into task_definition values (0, 'work', 'own', 4, 2000, 8)")
    engine = both.bench.engine
    engine.refused._carrier = both.carrier

    async def needs(caller: Caller = ANYONE) -> list[tuple[str, str]]:
        frame = await engine.steering.parts.overview._compute(caller)  # type: ignore[call-arg]
        return [(each.queue, each.sentence.split(", ")[0]) for each in frame.needs]

    await refused_here(both.bench, caller)
    there = [await refused_there(both, shop, queue) for queue in ("mail", "mail", None)]
    await engine.refused.look()
    one, two = "a row of the outbox{} is refused", "2 rows of the outbox{} are refused"
    beside = " beside the database"
    assert sorted(await needs()) == [
        ("mail", two.format(beside)), ("own", one.format(beside)), ("own", one.format("")),
    ]  # fmt: skip
    team = Caller("team", frozenset(Scope), ("team",))
    assert await needs(team) == []
    found = await engine.refused.of_ids(there)
    await engine.refused.dismiss([found[there[0]]])
    assert ("mail", one.format(beside)) in await needs()
    await shop.execute("drop schema hyrex cascade")
    await engine.refused.look()
    assert ("mail", one.format(beside)) in await needs(), "what was seen last, while it is away"


async def test_while_the_other_database_is_away_the_list_says_so(bench: Bench, caller: Any) -> None:
    await stilled(bench)
    url = f"postgresql://nobody@127.0.0.1:{free_port()}/none?connect_timeout=2"
    both = Both(bench, url)
    await bench.engine.relay.relay_next()
    row_id = await refused_here(bench, caller)
    page = await both.refused.page(None, 10)
    assert ([row.row_id for row in page.rows], page.is_whole) == ([row_id], False)
    with pytest.raises(StorageUnavailable):
        await both.refused.of_ids([TaskId(str(make_id()))])
    assert list(await both.refused.of_ids([row_id])) == [row_id]
    await both.beside.close()


async def test_a_row_that_was_refused_beside_is_known_by_its_id(both: Both, shop: Any) -> None:
    row_id = await refused_there(both, shop)
    view = await both.reads.task(row_id)
    assert view is not None
    assert (view.name, view.queue, view.payload) == ("work", "mail", b'{"n": 1}')
    assert view.is_refused
    assert f"was refused, since no task can be made of it: {BAD_PRIORITY}" in view.in_outbox
    assert await both.reads.queues_of([row_id]) == {row_id: "mail"}
    (watched,) = await both.reads.tasks([row_id], WATCHED)
    assert (watched.in_outbox, watched.payload) == (view.in_outbox, None)


async def test_who_looks_at_a_row_that_was_refused_beside_does_not_try_it_again(
    both: Both, shop: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """Each look would write the row anew in somebody else's database."""
    row_id = await refused_there(both, shop)
    before = await shop.fetchval("select ctid::text from hyrex.outbox")
    caplog.clear()
    await both.reads.task(row_id)
    assert await shop.fetchval("select ctid::text from hyrex.outbox") == before
    assert [each for each in caplog.records if each.levelno >= logging.ERROR] == []


async def test_a_row_that_is_mended_beside_becomes_a_task_of_its_queue(both: Both, shop: Any) -> None:
    row_id = await refused_there(both, shop)
    found = await both.refused.of_ids([row_id])
    again = await both.refused.retry(list(found.values()))
    assert again == {row_id: (RetryRowOutcome.REFUSED, BAD_PRIORITY)}
    assert await both.refused.change(found[row_id], RowChange(options='{"priority": 9}'))
    assert await both.refused.retry(list(found.values())) == {row_id: (RetryRowOutcome.RELAYED, "")}
    stored = "select task.id::text, queue, rank from task join lane on lane.id = lane"
    assert await rows(both.bench, stored) == [(row_id, "mail", 1)]
    assert await shop.fetchval("select count(*) from hyrex.outbox") == 0
    assert not await both.refused.change(found[row_id], RowChange(queue="late"))


async def test_a_delay_begins_at_the_change_by_the_clock_of_the_rows_database(
    both: Both, caller: Any, shop: Any
) -> None:
    for row_id, there in (
        (await refused_here(both.bench, caller), caller),
        (await refused_there(both, shop), shop),
    ):
        (row,) = (await both.refused.of_ids([row_id])).values()
        await both.refused.change(row, RowChange(options='{"later": 1}', delay=timedelta(seconds=600)))
        taken = "select run_at - held_at from hyrex.outbox where id = $1"
        assert await there.fetchval(taken, row_id) == timedelta(seconds=600)


async def test_a_row_that_its_queue_has_no_room_for_waits_for_it(both: Both, caller: Any) -> None:
    row_id = await refused_here(both.bench, caller, queue="narrow")
    await both.bench.database.execute(
        "insert into queue (namespace, name, max_waiting) values (0, 'narrow', 1)"
    )
    await both.bench.engine.directory.refresh()
    await enqueue(caller, queue="narrow")
    await relay_all(both.bench.engine.relay)
    (row,) = (await both.refused.of_ids([row_id])).values()
    await both.refused.change(row, RowChange(options="{}"))
    assert await both.refused.retry([row]) == {row_id: (RetryRowOutcome.WAITING, "")}


async def test_a_row_that_somebody_removed_meanwhile_is_not_called_a_task(both: Both, caller: Any) -> None:
    row_id = await refused_here(both.bench, caller)
    (row,) = (await both.refused.of_ids([row_id])).values()
    assert await both.refused.dismiss([row]) == {row_id}
    assert await both.refused.retry([row]) == {row_id: (RetryRowOutcome.NOT_FOUND, "")}


async def test_a_row_that_was_refused_beside_is_cancelled_and_dismissed(both: Both, shop: Any) -> None:
    cancelled, dismissed = [await refused_there(both, shop) for _ in range(2)]
    assert await both.bench.engine.cancels.cancel([cancelled], "") == [CancelOutcome.CANCELLED]
    (row,) = (await both.refused.of_ids([dismissed])).values()
    assert await both.refused.dismiss([row]) == {dismissed}
    assert await shop.fetchval("select count(*) from hyrex.outbox") == 0


async def test_a_retry_waits_for_whoever_is_taking_the_row(bench: Bench, caller: Any) -> None:
    """Another broker has it locked; that one may give it up."""
    await stilled(bench)
    made = TaskId(await enqueue(caller))
    taking = caller.transaction()
    await taking.start()
    await caller.execute("select from hyrex.outbox where id = $1 for update", made)
    retried = asyncio.create_task(bench.engine.relay.retry([made]))
    assert not (await asyncio.wait([retried], timeout=0.3))[0]
    await taking.rollback()
    assert await retried == {}
    assert await ids(bench) == [made]


async def test_a_new_reason_takes_the_place_of_the_old_one_and_the_same_is_not_logged_again(
    both: Both, caller: Any, caplog: pytest.LogCaptureFixture
) -> None:
    row_id = await refused_here(both.bench, caller)
    await both.bench.engine.relay.retry_refused()
    assert len(caplog.records) == 1
    await caller.execute("update outbox set options = '{\"sooner\": 1}'")
    await both.bench.engine.relay.retry_refused()
    (row,) = (await both.refused.of_ids([row_id])).values()
    assert row.reason == "this broker does not know option 'sooner'; update the brokers"
    assert len(caplog.records) == 2


async def test_what_was_refused_is_forgotten_after_its_term_in_both(
    both: Both, shop: Any, caller: Any
) -> None:
    here = [await refused_here(both.bench, caller) for _ in range(2)]
    there = [await refused_there(both, shop) for _ in range(2)]
    old = "update hyrex.outbox set held_at = now() - interval '30 days 1 hour' where id = $1"
    await caller.execute(old, here[0])
    await shop.execute(old, there[0])
    await both.refused.look()
    assert await ids(both.bench, "outbox") == [here[1]]
    assert [str(row[0]) for row in await shop.fetch("select id from hyrex.outbox")] == [there[1]]


async def test_a_reason_does_not_quote_what_a_row_carries(both: Both, caller: Any) -> None:
    """Whoever may see tasks sees it, also without the scope `payload`."""
    row_id = TaskId(await enqueue(caller))
    await caller.execute("update outbox set options = '{\"priority\": 99}' where id = $1", row_id)
    await relay_all(both.bench.engine.relay)
    (row,) = (await both.refused.of_ids([row_id])).values()
    assert "violates check constraint" in row.reason
    assert "\n" not in row.reason


async def test_a_payload_that_fits_in_no_message_is_left_out_of_what_is_shown(
    both: Both, caller: Any
) -> None:
    row_id = await refused_here(both.bench, caller)
    await caller.execute("update outbox set payload = convert_to(repeat('x', 15000001), 'UTF8')")
    (view,) = await both.reads.tasks([row_id], FULL)
    assert view.payload is None
    assert view.in_outbox
