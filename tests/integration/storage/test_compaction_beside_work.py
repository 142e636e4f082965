"""Compaction beside work, and killed between any two of its statements."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from datetime import timedelta
from typing import Any, Final

import pytest

from hyrex_broker.domain.model import Outcome
from hyrex_broker.domain.retention import RetentionTerms
from hyrex_broker.domain.states import TaskState
from hyrex_broker.storage import compaction
from hyrex_broker.storage.compaction import Compactor
from hyrex_broker.storage.retention import RetentionStore
from hyrex_broker.storage.statements import load
from hyrex_broker.storage.verify import verify
from tests.integration.storage.old_days import BAD, KEEP, OldDay, tables_of, upkeep
from tests.integration.storage.stage import ZERO, Stage
from tests.integration.storage.tripwire import LOST, Tripwire
from tests.integration.storage.waits import until_blocked

pytestmark = pytest.mark.own_database
RETRY: Final = load("cancel")["retry"]


@pytest.fixture(autouse=True)
def small_portions(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compaction, "PORTION", 3)
    monkeypatch.setattr(compaction, "_PAUSE_S", 0.01)


async def maintained(url: str, before: Callable[[str], Awaitable[None]]) -> None:
    """A round of compaction, with something done before each statement."""
    async with upkeep(url) as own:
        await Compactor(Tripwire(own, before), RetentionTerms(KEEP, BAD)).maintain()


async def killed_at(url: str, connection: Any, number: int) -> bool:
    """A round whose backend is terminated before its statement `number`; False if it has no so many."""
    count = 0
    async with upkeep(url) as own:

        async def kill(_statement: str) -> None:
            nonlocal count
            count += 1
            if count == number:
                await connection.execute("select pg_terminate_backend($1, 60000)", own.get_server_pid())

        try:
            await Compactor(Tripwire(own, kill), RetentionTerms(KEEP, BAD)).maintain()
        except LOST:
            if count < number:
                raise
            return True
    return False


async def test_a_backend_that_is_terminated_between_any_two_statements_leaves_nothing_half(
    stage: Stage, connection: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compaction, "PORTION", 1000)
    day = await OldDay.of(stage, connection, "sleeps", "failed")
    stays = set(day.ids)
    number = 1
    while True:
        added = await day.add(f"failed before {number}")
        await stage.cancels.retry([added])
        (run,) = await stage.assign(await stage.session())
        await stage.end(run, Outcome.COMPLETED)
        await connection.execute("update reopen set reopened_at = reopened_at - interval '1 hour'")
        await connection.execute("insert into dismissal values ($1, 0, 'me')", added)
        await connection.execute("delete from compaction")
        if not await killed_at(stage.database.url, connection, number):
            break
        assert stays <= await day.kept()
        assert (await verify(stage.database.url, since=day.start)).findings == {}
        number += 1
    assert number > 15
    assert await day.kept() == stays
    assert await day.is_whole()
    for table in ("reopen", "dismissal"):
        assert await connection.fetchval(f"select count(*) from {table}") == 0


async def test_a_backend_that_is_terminated_inside_the_swap_leaves_the_day_as_it_was(
    stage: Stage, connection: Any
) -> None:
    day = await OldDay.of(stage, connection, "sleeps", "completed")
    async with upkeep(stage.database.url) as own, upkeep(stage.database.url) as holder:
        await own.execute(compaction._SQL["begin"], day.start.date())
        swapping = None
        async with holder.transaction():
            # Both parents are locked by then, and the tables are detached: the swap stands in its last steps.
            await holder.execute("select * from pg_class for update")
            swapping = asyncio.ensure_future(own.fetchval(compaction._SQL["swap"], day.start.date()))
            await until_blocked(connection)
            await connection.execute("select pg_terminate_backend($1, 60000)", own.get_server_pid())
        with pytest.raises(LOST):
            await swapping
    assert await day.kept() == {"sleeps", "completed"}
    await day.retained()
    assert await day.kept() == {"sleeps"}
    assert await day.is_whole()


async def test_a_swap_gives_way_to_a_reader_and_is_done_later(stage: Stage, connection: Any) -> None:
    day = await OldDay.of(stage, connection, "sleeps", "completed")
    async with upkeep(stage.database.url) as reader:
        async with reader.transaction():
            await reader.fetchval("select count(*) from task")
            await connection.execute(
                "insert into broker (name, address, version, seen_at)"
                " values ('gone', '', '1', now() - interval '30 days')"
            )
            await day.retained()
            # Only the days wait for the reader, not the rest of the round.
            assert await connection.fetchval("select count(*) from broker where name = 'gone'") == 0
            await stage.submitted(3)
            assert await day.named("select id::text from task") == {"sleeps", "completed"}
        await RetentionStore(stage.database.url).maintain(KEEP, BAD)
    assert await day.kept() == {"sleeps"}
    assert await day.is_whole()


async def test_a_swap_that_takes_too_long_is_not_tried_again_on_that_day(
    stage: Stage, connection: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All submits wait for it, so not at every round."""
    day = await OldDay.of(stage, connection, "sleeps", "completed")
    monkeypatch.setattr(compaction, "_SWAP_LIMIT", "50ms")
    await connection.execute("alter function swap_compacted(date) set lock_timeout = '60s'")
    async with upkeep(stage.database.url) as reader, reader.transaction():
        await reader.fetchval("select count(*) from task")
        await day.retained()
    monkeypatch.setattr(compaction, "_SWAP_LIMIT", "60s")
    await RetentionStore(stage.database.url).maintain(KEEP, BAD)
    assert await day.kept() == {"sleeps", "completed"}
    await day.retained()
    assert await day.kept() == {"sleeps"}
    assert await day.is_whole()


Meanwhile = Callable[[OldDay], Awaitable[None]]


async def comes_to_life(day: OldDay) -> None:
    await day.stage.cancels.retry([day.ids["completed"]])


async def lives_and_ends(day: OldDay) -> None:
    await comes_to_life(day)
    for run in await day.stage.assign(await day.stage.session()):
        await day.stage.end(run, Outcome.FAILED)


async def ends(day: OldDay) -> None:
    await day.stage.cancels.cancel([day.ids["sleeps"]], "enough")


@pytest.mark.parametrize(
    ("meanwhile", "states"),
    [
        (comes_to_life, {"sleeps": TaskState.SCHEDULED, "completed": TaskState.QUEUED}),
        (lives_and_ends, {"sleeps": TaskState.SCHEDULED, "completed": TaskState.FAILED}),
        (ends, {"sleeps": TaskState.CANCELLED}),
    ],
    ids=["comes to life", "lives and ends", "ends"],
)
@pytest.mark.parametrize("place", ["begin", "copy", "swap", "forget_keys"])
async def test_what_moves_before_the_swap_is_kept_as_it_is_then(
    stage: Stage, connection: Any, meanwhile: Meanwhile, states: dict[str, TaskState], place: str
) -> None:
    day = await OldDay.of(stage, connection, "sleeps", "completed", "completed too")
    done = False

    async def before(statement: str) -> None:
        nonlocal done
        if not done and statement == compaction._SQL[place]:
            done = True
            await meanwhile(day)

    await maintained(stage.database.url, before)
    assert done
    if meanwhile is ends and place == "begin":
        states = {}  # nothing of it lived when the copy began
    if place == "forget_keys":
        states = {"sleeps": states["sleeps"]}  # the others were gone by then
    assert {name: await stage.state(day.ids[name]) for name in await day.kept()} == states
    # Else a repetition would be a second task beside the first.
    assert await day.named("select task_id::text from idempotency") == set(states)
    found = (await verify(stage.database.url, since=day.start)).findings
    assert found == {}


async def test_a_task_that_is_retried_when_its_day_is_dropped_is_kept_or_was_gone_before(
    stage: Stage, connection: Any
) -> None:
    """A day is emptied first: while it is detached, nothing of it can come to life and lose its day."""
    day = await OldDay.of(stage, connection, "completed")
    retried: list[Any] = []

    async def before(statement: str) -> None:
        if statement.startswith("alter table task_run detach"):
            retried.append(await stage.cancels.retry([day.ids["completed"]]))

    await maintained(stage.database.url, before)
    assert retried == [[]]
    assert await stage.state(day.ids["completed"]) is None
    assert await tables_of(connection, day.start) == []


async def test_a_retry_that_commits_while_a_swap_waits_for_it_is_seen(stage: Stage, connection: Any) -> None:
    day = await OldDay.of(stage, connection, "sleeps", "completed")
    # So that it waits until then, however slow this machine is.
    await connection.execute("alter function swap_compacted(date) set lock_timeout = '60s'")
    async with upkeep(stage.database.url) as own, upkeep(stage.database.url) as retrying:
        await copied(own, day)
        async with retrying.transaction():
            retried = await retrying.fetch(RETRY, [day.ids["completed"]])
            swapping = asyncio.ensure_future(own.fetchval(compaction._SQL["swap"], day.start.date()))
            await until_blocked(connection)
        await swapping
    assert len(retried) == 1
    assert await stage.state(day.ids["completed"]) is TaskState.QUEUED
    assert await day.kept() == {"sleeps", "completed"}


async def copied(own: Any, day: OldDay) -> None:
    """Do all that comes before the swap."""
    await own.execute(compaction._SQL["begin"], day.start.date())
    after: Any = compaction._before(day.start)
    while after is not None:
        after = await own.fetchval(
            compaction._SQL["copy"], day.start.date(), after, 3, False, True, timedelta(0), []
        )


async def beside_a_swap(day: OldDay, work: Awaitable[Any]) -> Any:
    """What a statement returns that begins when a swap is done and not yet committed."""
    connection = day.connection
    async with upkeep(day.stage.database.url) as own:
        await copied(own, day)
        async with own.transaction():
            await own.fetchval(compaction._SQL["swap"], day.start.date())
            waiting = asyncio.ensure_future(_of(work))
            await until_blocked(connection)
        return await waiting


async def _of(work: Awaitable[Any]) -> Any:
    return await work


async def test_a_task_that_is_assigned_and_reported_beside_a_swap_is_found(
    stage: Stage, connection: Any
) -> None:
    """A statement takes its snapshot when it has its locks, so it sees the rows that were copied."""
    day = await OldDay.of(stage, connection, "sleeps", "completed")
    await connection.execute("update delayed set run_at = now()")
    await stage.promotes.promote(ZERO, 10)
    opened = await stage.session()
    (run,) = await beside_a_swap(day, stage.assign(opened))
    assert (run.task_id, run.payload) == (day.ids["sleeps"], b"{}")
    await beside_a_swap(day, stage.end(run, Outcome.COMPLETED))
    assert await stage.state(run.task_id) is TaskState.COMPLETED


async def test_a_retry_beside_a_swap_reopens_what_is_kept(stage: Stage, connection: Any) -> None:
    day = await OldDay.of(stage, connection, "failed", "completed")
    retried: Sequence[Any] = await beside_a_swap(day, stage.cancels.retry(list(day.ids.values())))
    assert [each.task_id for each in retried] == [day.ids["failed"]]
    assert (await verify(stage.database.url, since=day.start)).findings == {}


async def test_what_is_retried_and_ends_again_before_the_swap_has_both_ends_whatever_the_clock_does(
    stage: Stage, connection: Any
) -> None:
    """The clock is set back meanwhile: by its time nothing would have moved since the copy began, and the
    task would neither live nor have an end."""
    day = await OldDay.of(stage, connection, "sleeps", "failed", "completed")
    async with upkeep(stage.database.url) as own:
        await copied(own, day)
        await stage.cancels.retry([day.ids["failed"]])
        (run,) = await stage.assign(await stage.session())
        await stage.end(run, Outcome.FAILED)
        await connection.execute("update reopen set reopened_at = reopened_at - interval '1 hour'")
        await own.fetchval(compaction._SQL["swap"], day.start.date())
    assert [each["run_number"] for each in await stage.runs(day.ids["failed"])] == [0, 1]
    assert (await verify(stage.database.url, since=day.start)).findings == {}
