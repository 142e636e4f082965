"""Rule 23: ends that nobody has followed are found by the sweep, within its bound, whatever waits meanwhile.

The bound (10 s between two looks, at ends that are 5 s old) is shortened here. The rounds through all seats
and blocked tasks would find them too while there are few; so they are left out where they are not tested.
"""

import asyncio
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any
from unittest.mock import AsyncMock

import pytest

from hyrex_broker.domain.model import CancelOutcome, LaneId, Outcome, RetryOutcome, TaskId
from hyrex_broker.engine import sweep
from hyrex_broker.storage.marks import FOLLOWED_HEAD, HEADS, Mark, MarkStore
from tests.integration.engine.bench import Bench, Link, running_engine
from tests.integration.engine.stored_rows import rows, until_rows
from tests.integration.engine.workflow_runs import begun, sent, store
from tests.integration.storage.keys import keyed
from tests.integration.storage.stage import end_of, new_task

CANCELLED, FAILED = int(Outcome.CANCELLED), int(Outcome.FAILED)
_MARK = f"select mark from low_water_mark where lane = 0 and rank = {FOLLOWED_HEAD}"


@pytest.fixture(autouse=True)
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sweep, "EVERY_S", 0.1)
    monkeypatch.setattr(sweep, "SETTLED", timedelta(seconds=0.1))


def _deaf(*_: object) -> None:
    """Nobody is told."""


def _by_ends_alone(bench: Bench) -> None:
    bench.engine.follow._sweep._rounds.clear()
    bench.engine.follow.sweep_soon()


async def _until_looked(bench: Bench, times: int) -> None:
    """Wait until the sweep has read the ends so many times more."""
    store, looks = bench.engine.follow._sweep._store, 0
    read = store.ended

    async def counted(*args: Any) -> Any:
        nonlocal looks
        found = await read(*args)
        looks += 1
        return found

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(store, "ended", counted)
        async with asyncio.timeout(60):
            while looks < times:
                await asyncio.sleep(0.01)


async def _with_workflows(bench: Bench) -> None:
    """As the service notes their first use."""
    await bench.database.execute("insert into used_feature (name) values ('workflows')")
    _by_ends_alone(bench)


async def _all_of(bench: Bench, link: Link, count: int) -> set[TaskId]:
    """So many runs, each of which completes as soon as it begins."""
    done = 0
    while done < count:
        runs = await link.until_runs(done + 1)
        for run in runs[done:]:
            await bench.report([end_of(run, Outcome.COMPLETED)])
        done = len(runs)
    return {run.task_id for run in link.runs}


@pytest.mark.parametrize("finds", [_by_ends_alone, lambda bench: bench.engine.follow.sweep_soon()])
async def test_all_runs_on_though_every_tenth_end_is_never_followed(
    bench: Bench, finds: Callable[[Bench], None]
) -> None:
    finds(bench)
    told, count = bench.engine.reports.on_ended, 0

    def forgetful(lane: LaneId, task_ids: Any) -> None:
        nonlocal count
        count += 1
        if count % 10:
            told(lane, task_ids)

    bench.engine.reports.on_ended = forgetful
    tasks = [keyed(key) for key in "abc" * 10]
    await bench.submit(tasks)
    _, link = await bench.worker(10)
    assert await _all_of(bench, link, len(tasks)) == {task.task_id for task in tasks}
    assert count == len(tasks)


async def test_the_next_of_a_key_goes_on_when_nobody_followed_the_cancel_of_the_first_that_waited(
    bench: Bench,
) -> None:
    """Behind one that may not run beside another stands one that may."""
    _by_ends_alone(bench)
    bench.engine.cancels.on_ended = bench.engine.cancels.on_blocked = _deaf
    held, first, second = keyed(most=1), keyed(most=1), keyed(most=2)
    for task in (held, first, second):
        await bench.submit([task])
    _, link = await bench.worker(2)
    await link.until_runs(1)
    assert await bench.engine.cancels.cancel([first.task_id], "enough") == [CancelOutcome.CANCELLED]
    assert [run.task_id for run in await link.until_runs(2)] == [held.task_id, second.task_id]


async def test_what_was_put_into_blocked_and_never_looked_at_goes_on(bench: Bench) -> None:
    _by_ends_alone(bench)
    bench.engine.cancels.on_blocked = _deaf
    task = keyed()
    await bench.submit([task])
    _, link = await bench.worker(1)
    (run,) = await link.until_runs(1)
    await bench.report([end_of(run, Outcome.FAILED)])
    assert await bench.engine.cancels.retry([task.task_id]) == [RetryOutcome.REQUEUED]
    assert [run.task_id for run in await link.until_runs(2)] == [task.task_id] * 2


@pytest.mark.parametrize("bad", [False, True])
async def test_nodes_go_on_though_no_end_of_one_is_followed(bench: Bench, bad: bool) -> None:
    await _with_workflows(bench)
    bench.engine.reports.on_ended = _deaf
    runs = await begun(bench, sent({"a": [], "b": ["a"], "c": ["b"]}))
    await runs.step(Outcome.FAILED if bad else Outcome.COMPLETED)
    if not bad:
        await runs.step()
        await runs.step()
    assert await runs.ended() == (FAILED if bad else int(Outcome.COMPLETED))
    assert await runs.left() == []


async def test_nodes_that_are_put_back_go_on_though_nobody_looks_at_them(bench: Bench) -> None:
    await _with_workflows(bench)
    runs = await begun(bench, sent({"a": [], "b": ["a"]}))
    await runs.step(Outcome.FAILED)
    assert await runs.ended() == FAILED
    bench.engine.cancels.on_blocked = _deaf
    assert await bench.engine.cancels.retry([runs.root]) == [RetryOutcome.REQUEUED]
    assert [await runs.step(), await runs.step()] == ["a", "b"]


async def test_a_cancelled_root_ends_though_nobody_follows_the_ends_of_its_nodes(bench: Bench) -> None:
    await _with_workflows(bench)
    runs = await begun(bench, sent({"a": [], "b": ["a"]}), capacity=0)
    bench.engine.cancels.on_ended = bench.engine.cancels.on_blocked = _deaf
    await bench.engine.cancels.cancel([runs.root], "enough")
    assert await runs.ended() == CANCELLED
    assert await runs.left() == []


async def test_a_stopped_workflow_has_its_nodes_cancelled_by_the_next_broker(bench: Bench) -> None:
    """Killed between the flag of the root and the cancels of its nodes."""
    await _with_workflows(bench)
    request = sent({"a": [], "b": ["a"]})
    await store(bench, request)
    await bench.database.execute(
        "update blocked set cancel_at = now(), cancel_reason = 'enough' where kind = 1"
    )
    await until_rows(bench, "select count(*) from live", [(0,)])


async def test_ends_of_plain_tasks_are_not_looked_at(bench: Bench) -> None:
    """What they do not use costs them nothing: none is in the index, handed off or assigned."""
    await bench.submit([new_task() for _ in range(5)])
    _, link = await bench.worker(10)
    await _all_of(bench, link, 5)
    await bench.submit([new_task() for _ in range(5)])
    await bench.submit([keyed(key) for key in "abcde"])
    await _all_of(bench, link, 15)
    looked_at = "select count(*) from task_run where final and (token is null or token & 1 = 1)"
    assert await rows(bench, looked_at) == [(5,)]


async def _stored_mark(bench: Bench) -> Any:
    found = await rows(bench, _MARK)
    return found[0][0] if found else None


async def _moved(bench: Bench, since: Any) -> Any:
    async with asyncio.timeout(60):
        while (mark := await _stored_mark(bench)) == since:
            await asyncio.sleep(0.01)
    return mark


async def test_the_next_broker_goes_on_from_what_was_followed(storage_url: str) -> None:
    """What was found and could not be followed is not passed by."""
    async with running_engine(storage_url) as bench:
        _by_ends_alone(bench)
        bench.engine.reports.on_ended = _deaf
        first, second = keyed(), keyed()
        await bench.submit([first])
        await bench.submit([second])
        session, link = await bench.worker(1)
        (run,) = await link.until_runs(1)
        before = await _stored_mark(bench)
        await bench.database.execute("alter function hyrex.follow rename to follow_later")
        await bench.report([end_of(run, Outcome.COMPLETED)])
        async with asyncio.timeout(60):
            while first.task_id not in bench.engine.follow._tasks:
                await asyncio.sleep(0.01)
        await _until_looked(bench, 3)
        assert await _stored_mark(bench) == before
        await bench.engine.sessions.end(session.session_id, session.secret, Outcome.RELEASED, "gone")
    async with running_engine(storage_url) as bench:
        await bench.database.execute("alter function hyrex.follow_later rename to follow")
        _by_ends_alone(bench)
        _, link = await bench.worker(1)
        (run,) = await link.until_runs(1)
        assert run.task_id == second.task_id
        await _moved(bench, before)


async def test_nothing_is_read_twice(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Sequence[TaskId]] = []
    read = bench.engine.follow._sweep._store.ended

    async def noted(*args: Any) -> Any:
        found = await read(*args)
        seen.append([] if found.last is None else [found.last[1]])
        return found

    monkeypatch.setattr(bench.engine.follow._sweep._store, "ended", noted)
    bench.engine.follow.sweep_soon()
    _, link = await bench.worker(1)
    await bench.submit([keyed()])
    (task_id,) = await _all_of(bench, link, 1)
    async with asyncio.timeout(60):
        while [task_id] not in seen:
            await asyncio.sleep(0.01)
    await _until_looked(bench, 3)
    assert seen.count([task_id]) == 1


async def test_ends_of_before_and_after_the_clock_was_set_back_are_found(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A new primary whose clock is an hour behind: what was stored before is in its future, mark and ends."""
    monkeypatch.setattr(sweep, "SETTLED", timedelta(seconds=5))
    swept = bench.engine.follow._sweep
    bench.engine.reports.on_ended = _deaf
    with monkeypatch.context() as nobody_looks:
        elected = AsyncMock(return_value=None)
        nobody_looks.setattr(swept._store, "elected", elected)
        async with asyncio.timeout(60):
            while elected.await_count < 2:
                await asyncio.sleep(0.01)
        _by_ends_alone(bench)
        for key in "aabb":
            await bench.submit([keyed(key)])
        _, link = await bench.worker(2)
        early, late = await link.until_runs(2)
        await bench.report([end_of(early, Outcome.COMPLETED)])
        await bench.database.execute("update task_run set finished_at = now() + interval '1 hour'")
        await MarkStore(bench.database).save(
            [Mark(HEADS, FOLLOWED_HEAD, datetime.now(UTC) + timedelta(hours=2))]
        )
    await link.until_runs(3)
    await bench.report([end_of(late, Outcome.COMPLETED)])
    await link.until_runs(4)


async def test_an_end_whose_commit_takes_long_is_not_passed_by(bench: Bench) -> None:
    """It is of the time at which its transaction began, and looks were made since."""
    _by_ends_alone(bench)
    bench.engine.reports.on_ended = _deaf
    first, second = keyed(), keyed()
    for task in (first, second):
        await bench.submit([task])
    _, link = await bench.worker(2)
    (run,) = await link.until_runs(1)
    async with bench.database.transaction() as slow:
        await slow.execute("delete from lease")
        await slow.execute(
            "insert into task_run (task_id, run_number, attempt_number, outcome, final, token)"
            " values ($1, 0, 0, 2, true, $2)",
            first.task_id,
            run.token,
        )
        await _until_looked(bench, 8)
    assert [run.task_id for run in await link.until_runs(2)] == [first.task_id, second.task_id]
