"""Concurrency keys through a whole engine: every way in which a task ends lets the next of its key go on."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import timedelta

import pytest

from hyrex_broker.domain.errors import KeyAtMaximum
from hyrex_broker.domain.model import BrokerId, CancelOutcome, Outcome, RetryOutcome, SubmitAnswer, TaskId
from hyrex_broker.storage.follow import FollowStore
from hyrex_broker.storage.queues import QueueStore
from tests.integration.engine.bench import Bench, running_engine
from tests.integration.storage.keys import keyed
from tests.integration.storage.stage import end_of, new_task


async def _two(bench: Bench) -> tuple[TaskId, TaskId]:
    """A task that holds a key, and one that waits for it."""
    first, second = keyed(), keyed()
    await bench.submit([first])
    await bench.submit([second])
    return first.task_id, second.task_id


async def _in_blocked(bench: Bench) -> set[str]:
    return {str(row[0]) for row in await bench.database.fetch("select task_id from blocked")}


async def _completed(bench: Bench) -> None:
    _, link = await bench.worker(1)
    (run,) = await link.until_runs(1)
    await bench.report([end_of(run, Outcome.COMPLETED)])
    await link.until_runs(2)


async def _failed(bench: Bench) -> None:
    _, link = await bench.worker(1)
    (run,) = await link.until_runs(1)
    await bench.report([end_of(run, Outcome.FAILED)])
    await link.until_runs(2)


async def _session_over(bench: Bench) -> None:
    """Its worker is lost more often than that is borne."""
    session, link = await bench.worker(1)
    await link.until_runs(1)
    await bench.database.fetch("update lease set releases = 100")
    await bench.engine.reports.end_session(session.session_id, session.secret, Outcome.RELEASED, "gone")
    _, link = await bench.worker(1)
    await link.until_runs(1)


async def _cancelled(bench: Bench) -> None:
    ready = await bench.database.fetchrow("select task_id::text from ready")
    assert ready is not None
    assert await bench.engine.cancels.cancel([ready[0]], "enough") == [CancelOutcome.CANCELLED]
    _, link = await bench.worker(1)
    await link.until_runs(1)


@pytest.mark.parametrize("ends", [_completed, _failed, _session_over, _cancelled])
async def test_an_end_lets_the_next_of_its_key_run(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, ends: Callable[[Bench], Awaitable[None]]
) -> None:
    """By whoever recorded it: nobody sweeps here."""

    async def nobody(store: FollowStore, broker: BrokerId, settled: timedelta) -> None:
        """Is elected."""

    monkeypatch.setattr(FollowStore, "elected", nobody)
    _, second = await _two(bench)
    assert await _in_blocked(bench) == {second}
    async with asyncio.timeout(60):
        await ends(bench)
    assert await _in_blocked(bench) == set()


async def test_a_task_that_refuses_to_wait_is_told_who_holds_its_key(bench: Bench) -> None:
    holder, refused = keyed(), keyed(refuses=True)
    await bench.submit([holder])
    (answer,) = await bench.submit([refused])
    assert isinstance(answer, KeyAtMaximum)
    assert answer.metadata == {"key": "a", "limit": "1", "holder": holder.task_id}


async def test_keyed_and_plain_tasks_of_one_call_are_each_answered(bench: Bench) -> None:
    tasks = [new_task(), keyed("x"), new_task(key="once"), keyed("x", refuses=True)]
    answers = await bench.submit(tasks)
    assert [type(each).__name__ for each in answers] == ["SubmitAnswer"] * 3 + ["KeyAtMaximum"]
    again = await bench.submit(tasks[:3])
    assert [each.outcome.name for each in again if isinstance(each, SubmitAnswer)] == ["REPEATED"] * 3


async def test_a_blocked_task_is_cancelled(bench: Bench) -> None:
    _, second = await _two(bench)
    assert await bench.engine.cancels.cancel([second], "enough") == [CancelOutcome.CANCELLED]
    assert await _in_blocked(bench) == set()


async def test_a_retried_task_waits_for_its_key(bench: Bench) -> None:
    first, second = await _two(bench)
    _, link = await bench.worker(1)
    (run,) = await link.until_runs(1)
    await bench.report([end_of(run, Outcome.FAILED)])
    _, run = await link.until_runs(2)
    assert await bench.engine.cancels.retry([first]) == [RetryOutcome.REQUEUED]
    assert await _in_blocked(bench) == {first}
    await bench.report([end_of(run, Outcome.COMPLETED)])
    runs = await link.until_runs(3)
    assert [each.task_id for each in runs] == [first, second, first]


async def test_a_scheduled_task_waits_for_its_key_when_it_is_due(bench: Bench) -> None:
    _, link = await bench.worker(9)
    await bench.submit([keyed()])
    (run,) = await link.until_runs(1)
    later = keyed(delay_ms=1)
    await bench.submit([later])
    async with asyncio.timeout(60):
        while await _in_blocked(bench) != {later.task_id}:
            await asyncio.sleep(0.01)
    await bench.report([end_of(run, Outcome.COMPLETED)])
    assert (await link.until_runs(2))[1].task_id == later.task_id


async def test_a_purge_takes_what_is_blocked_before_what_would_let_it_go(bench: Bench) -> None:
    await _two(bench)
    store = QueueStore(bench.database)
    purged = [each async for each in store.purge("default", "enough", await store.now())]
    assert [len(each.task_ids) for each in purged] == [1, 1]
    assert purged[0].keys
    assert await _in_blocked(bench) == set()
    rows = await bench.database.fetch("select cause from task_run")
    assert [row["cause"] for row in rows] == [2, 2]


async def test_what_a_killed_broker_has_not_followed_is_followed_by_the_next(storage_url: str) -> None:
    """Killed between the commit of an end and its follow: the broker that starts looks at once."""
    async with running_engine(storage_url) as killed:
        killed.engine.reports.on_ended = lambda lane, task_ids: None
        _, second = await _two(killed)
        session, link = await killed.worker(1)
        (run,) = await link.until_runs(1)
        await killed.report([end_of(run, Outcome.COMPLETED)])
        assert await _in_blocked(killed) == {second}
        await killed.engine.sessions.end(session.session_id, session.secret, Outcome.RELEASED, "gone")
    async with running_engine(storage_url) as bench:
        _, link = await bench.worker(1)
        (run,) = await link.until_runs(1)
        assert run.task_id == second


_TIMES_OUT = """
alter function hyrex.follow rename to follow_few;
create function hyrex.follow(ids uuid[], more bigint[])
returns table (moved uuid, into_lane integer, at_rank smallint) language plpgsql as $$
begin
  if cardinality(ids) > 3 then
    raise query_canceled;
  end if;
  return query select * from hyrex.follow_few(ids, more);
end $$;
"""
_AS_BEFORE = """
drop function hyrex.follow;
alter function hyrex.follow_few rename to follow;
"""


async def test_what_takes_too_long_at_once_is_followed_in_parts(bench: Bench) -> None:
    """Many tasks may go on from a thousand ends; a statement that is never over in time moves none."""
    holders, waiting = [[keyed(str(n)) for n in range(10)] for _ in range(2)]
    await bench.submit(holders)
    await bench.submit(waiting)
    await bench.database.execute(_TIMES_OUT)
    try:
        await bench.engine.cancels.cancel([task.task_id for task in holders], "enough")
        async with asyncio.timeout(60):
            while await _in_blocked(bench):
                await asyncio.sleep(0.01)
    finally:
        await bench.database.execute(_AS_BEFORE)
