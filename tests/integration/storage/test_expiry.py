"""Tasks that must begin within a time: judged by assigns, swept while they wait, never run late (rule 38)."""

import asyncio
from datetime import timedelta
from typing import Any

import pytest

from hyrex_broker.domain.model import NOT_IN_TIME, CancelCause, Outcome, RetryOutcome, TaskExtras, TaskId
from hyrex_broker.domain.rates import DeclaredLimit
from hyrex_broker.domain.states import TaskState
from hyrex_broker.engine.cancels import Cancels
from hyrex_broker.engine.expiry import Expiry
from hyrex_broker.storage.expiry import ExpiryStore, Swept
from hyrex_broker.storage.marks import MarkStore
from hyrex_broker.storage.statements import load
from tests.integration.storage.stage import ZERO, Stage, new_task
from tests.integration.storage.waits import until_blocked
from tests.support.assigned import runs_of

HOUR_MS = 3_600_000


async def expiring(stage: Stage, **changes: Any) -> TaskId:
    """A task that must begin within an hour."""
    extras = {"expires_in_ms": HOUR_MS} | changes.pop("extras", {})
    (task_id,) = await stage.submit(new_task(extras=TaskExtras(**extras), **changes))
    return task_id


async def let_expire(stage: Stage, *task_ids: TaskId) -> None:
    """Let their time be over, as it would be an hour later."""
    for task_id in task_ids:
        await stage.execute(
            "update task set expires_at = expires_at - interval '1 hour 10 seconds' where id = $1", task_id
        )
        await stage.execute(
            "update expiry set expires_at = expires_at - interval '1 hour 10 seconds',"
            " look_at = look_at - interval '1 hour 10 seconds' where task_id = $1",
            task_id,
        )


async def swept(stage: Stage) -> Swept:
    return await ExpiryStore(stage.database).sweep(ZERO, 1000)


async def end_of(stage: Stage, task_id: TaskId) -> tuple[int, int | None, str | None]:
    """Outcome, cause and reason of its last run."""
    last = (await stage.runs(task_id))[-1]
    assert last["final"]
    return last["outcome"], last["cause"], last["reason"]


_REFUSING = """
create function refusing() returns trigger language plpgsql as
$$ begin if new.task_id = '{}' then raise exception 'refused'; end if; return new; end $$;
create trigger refusing before insert on task_run for each row execute function refusing()
"""

EXPIRED = (Outcome.CANCELLED, CancelCause.EXPIRED, NOT_IN_TIME)


async def test_an_expired_task_is_not_assigned_and_the_others_are(stage: Stage) -> None:
    late, plain, early = await expiring(stage), *(await stage.submitted()), await expiring(stage)
    await let_expire(stage, late)
    opened = await stage.session()
    result = await stage.assigns.assign(stage.plan(opened, await stage.lane(), 5), stage.names)
    runs = {run.task_id: run for run in runs_of(result.blocks)}
    assert {*runs} == {plain, early}
    assert [task_id for task_id, _ in result.expired] == [late]
    assert await end_of(stage, late) == EXPIRED
    assert await stage.execute("select count(*) from lease") == 2
    assert result.read[await stage.lane(), 5][0] == 3


async def test_an_assign_that_waited_for_a_limit_judges_by_the_time_when_it_has_it(
    stage: Stage, connection: Any
) -> None:
    """now() is the time of BEGIN: by it, a task would begin as much too late as the lock was waited for."""
    await stage.lanes.declare_limits([DeclaredLimit("task", "work", 5)])
    late = await expiring(stage)
    lane, opened = await stage.lane(), await stage.session()
    limits = {lane: [("task", "work")]}
    async with connection.transaction():
        await connection.execute("select from concurrency_limit for update")
        waiting = stage.assigns.assign_limited(stage.plan(opened, lane, 5), stage.names, limits)
        assigning = asyncio.create_task(waiting)
        await until_blocked(connection)
        await connection.execute("update task set expires_at = clock_timestamp() where id = $1", late)
    result = await assigning
    assert (result.blocks, [task_id for task_id, _ in result.expired]) == ([], [late])
    assert await end_of(stage, late) == EXPIRED
    assert await stage.execute(
        "select finished_at >= expires_at from task_run r join task t on t.id = r.task_id"
    ), "it ended before its time was over"


async def test_an_assign_tells_what_is_left_of_the_time_to_begin(stage: Stage) -> None:
    await stage.submitted()
    await expiring(stage)
    opened = await stage.session()
    result = await stage.assigns.assign(stage.plan(opened, await stage.lane(), 5), stage.names)
    (block,) = result.blocks
    plain, left = block.expires_in_ms
    assert plain == 0
    assert 0 < left <= HOUR_MS


async def test_blocks_of_plain_tasks_have_no_such_column(stage: Stage) -> None:
    await stage.submitted(2)
    result = await stage.assigns.assign(stage.plan(await stage.session(), await stage.lane(), 2), stage.names)
    assert [block.expires_in_ms for block in result.blocks] == [()]
    assert result.expired == []
    assert await stage.execute("select count(*) from expiry") == 0


async def test_the_sweep_ends_what_waits_and_leaves_what_runs(stage: Stage) -> None:
    running = await expiring(stage)
    opened = await stage.session()
    await stage.assign(opened)
    ready, delayed, early = (
        await expiring(stage),
        await expiring(stage, extras={"delay_ms": 1000}),
        await expiring(stage),
    )
    await let_expire(stage, running, ready, delayed)
    found = await swept(stage)
    assert sorted(found.ended) == sorted([ready, delayed])
    assert await end_of(stage, ready) == await end_of(stage, delayed) == EXPIRED
    assert await stage.state(running) is TaskState.RUNNING
    assert await stage.state(early) is TaskState.QUEUED


async def test_time_counts_from_when_a_task_may_first_run(stage: Stage) -> None:
    task_id = await expiring(stage, extras={"delay_ms": HOUR_MS})
    left = await stage.execute("select expires_at - submitted_at from task where id = $1", task_id)
    assert left == timedelta(hours=2)
    run_at = await stage.execute("select now() + interval '3 hours'")
    later = await expiring(stage, extras={"run_at": run_at})
    assert await stage.execute("select expires_at from task where id = $1", later) == run_at + timedelta(
        hours=1
    )
    past = await expiring(stage, extras={"run_at": run_at - timedelta(hours=30)})
    left = await stage.execute("select expires_at - submitted_at from task where id = $1", past)
    assert left == timedelta(hours=1)


async def test_a_retry_of_a_failed_run_expires_too(stage: Stage) -> None:
    """Its time was over while it ran: the sweep looks again, and the run that would follow does not begin."""
    task_id = await expiring(stage, max_retries=3)
    (run,) = await stage.assign(await stage.session())
    await let_expire(stage, task_id)
    assert (await swept(stage)).ended == []
    await stage.end(run, Outcome.FAILED, retry_delay_ms=HOUR_MS)
    await stage.execute("update expiry set look_at = now() - interval '1 second'")
    assert (await swept(stage)).ended == [task_id]
    assert [each["outcome"] for each in await stage.runs(task_id)] == [Outcome.FAILED, Outcome.CANCELLED]
    assert await end_of(stage, task_id) == EXPIRED


async def test_nothing_is_left_to_look_at_once_a_task_has_ended(stage: Stage) -> None:
    task_id = await expiring(stage)
    (run,) = await stage.assign(await stage.session())
    await stage.end(run, Outcome.COMPLETED)
    await let_expire(stage, task_id)
    assert (await swept(stage)).ended == []
    assert await stage.execute("select count(*) from expiry") == 0
    assert await stage.state(task_id) is TaskState.COMPLETED


async def test_a_task_that_an_assign_has_locked_is_left_to_it(stage: Stage, rival: Stage) -> None:
    """The sweep waits for nobody, and looks again later."""
    task_id = await expiring(stage)
    await let_expire(stage, task_id)
    async with rival.database.transaction() as holding:
        await holding.fetch("select from ready for update")
        async with asyncio.timeout(60):
            assert (await swept(stage)).ended == []
        assert await stage.state(task_id) is TaskState.QUEUED
    await stage.execute("update expiry set look_at = now() - interval '1 second'")
    assert (await swept(stage)).ended == [task_id]


async def test_what_the_database_refuses_to_end_keeps_no_other_task_waiting(
    stage: Stage, connection: Any
) -> None:
    """By an operator's trigger, or since the day's table is gone. It ended the broker, and the next one."""
    tasks = [await expiring(stage) for _ in range(4)]
    await let_expire(stage, *tasks)
    await connection.execute(_REFUSING.format(tasks[1]))
    try:
        expiry = Expiry(ExpiryStore(stage.database), MarkStore(stage.database))
        ended: list[TaskId] = []
        expiry.on_change = ended.extend
        running = asyncio.create_task(expiry.run())
        async with asyncio.timeout(60):
            while len(ended) < 3 and not running.done():
                await asyncio.sleep(0.01)
        assert not running.done()
        running.cancel()
    finally:
        await connection.execute("drop trigger refusing on task_run; drop function refusing()")
    assert sorted(ended) == sorted({*tasks} - {tasks[1]})
    assert await stage.state(tasks[1]) is TaskState.QUEUED
    assert await stage.execute("select look_at > now() from expiry"), "it is looked at again later"


async def test_two_sweeps_end_a_task_once(stage: Stage, rival: Stage) -> None:
    ids = [await expiring(stage) for _ in range(20)]
    await let_expire(stage, *ids)
    found = await asyncio.gather(swept(stage), swept(rival))
    assert sorted(task_id for each in found for task_id in each.ended) == sorted(ids)


async def test_a_cancel_beside_a_sweep_finds_that_the_task_has_ended(stage: Stage, connection: Any) -> None:
    task_id = await expiring(stage)
    await let_expire(stage, task_id)
    async with connection.transaction():
        await connection.fetch(load("expiry")["sweep"], ZERO, 1000)
        cancelling = asyncio.create_task(stage.cancels.cancel([task_id], "by hand"))
        await until_blocked(connection)
    assert await cancelling == []
    assert await end_of(stage, task_id) == EXPIRED


def cancels(stage: Stage) -> Cancels:
    class Waking:
        """Nobody is there to assign."""

        def wake(self, pairs: object, *, local: bool) -> None:
            """Do nothing."""

    return Cancels(stage.cancels, None, Waking())  # type: ignore[arg-type]


async def test_an_expired_task_is_not_retried(stage: Stage) -> None:
    task_id = await expiring(stage)
    await let_expire(stage, task_id)
    await swept(stage)
    assert await cancels(stage).retry([task_id]) == [RetryOutcome.EXPIRED]
    assert await stage.state(task_id) is TaskState.CANCELLED


async def test_a_task_that_ended_otherwise_is_retried_until_its_time_is_over(stage: Stage) -> None:
    first, second = await expiring(stage), await expiring(stage)
    for run in await stage.assign(await stage.session(), 2):
        await stage.end(run, Outcome.FAILED)
    await let_expire(stage, second)
    assert await cancels(stage).retry([first, second]) == [RetryOutcome.REQUEUED, RetryOutcome.EXPIRED]


async def test_a_retry_at_the_last_moment_is_still_swept(stage: Stage) -> None:
    """The sweep saw the task ended, and the retry that had begun before was committed afterwards."""
    task_id = await expiring(stage)
    (run,) = await stage.assign(await stage.session())
    await stage.end(run, Outcome.FAILED)
    await let_expire(stage, task_id)
    await stage.execute("update expiry set expires_at = now() - interval '1 second'")
    await swept(stage)
    await stage.execute(
        "insert into ready select id, lane, rank, now(), 1, 0, 0, 0, false from task where id = $1",
        task_id,
    )
    await stage.execute("update expiry set look_at = now() - interval '1 second'")
    assert (await swept(stage)).ended == [task_id]


async def test_the_workers_word_that_it_was_too_late_ends_a_task(stage: Stage) -> None:
    task_id = await expiring(stage, max_retries=5)
    (run,) = await stage.assign(await stage.session())
    await stage.end(run, Outcome.CANCELLED, cause=CancelCause.EXPIRED, reason=NOT_IN_TIME, elapsed_us=None)
    assert await end_of(stage, task_id) == EXPIRED
    assert (await stage.runs(task_id))[0]["started_at"] is None


async def test_a_cancel_that_was_asked_for_first_is_the_cause(stage: Stage) -> None:
    task_id = await expiring(stage)
    (run,) = await stage.assign(await stage.session())
    await stage.cancels.cancel([task_id], "by hand")
    await stage.end(run, Outcome.CANCELLED, cause=CancelCause.EXPIRED, reason=NOT_IN_TIME, elapsed_us=None)
    assert await end_of(stage, task_id) == (Outcome.CANCELLED, None, "by hand")


@pytest.mark.parametrize("key", [None, "order-7"])
async def test_an_expired_task_keeps_its_key(stage: Stage, key: str | None) -> None:
    """As any ended task does, for as long as it is kept."""
    task_id = await expiring(stage, key=key)
    await let_expire(stage, task_id)
    await swept(stage)
    again = new_task(key=key, extras=TaskExtras(expires_in_ms=HOUR_MS))
    assert (again.task_id in await stage.submit(again)) == (key is None)
