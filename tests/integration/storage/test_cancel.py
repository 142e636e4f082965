"""Cancelling and retrying: durable, in every state, and once however often it is asked."""

import asyncio
from typing import Any

import pytest

from hyrex_broker.domain.errors import SessionSecretInvalid
from hyrex_broker.domain.model import CancelCause, Outcome, TaskExtras
from hyrex_broker.domain.states import TaskState
from hyrex_broker.storage.promote import PromoteStore
from hyrex_broker.storage.reads import FULL, TaskReads
from tests.integration.storage.stage import SECRET, ZERO, Stage, make_id, new_task
from tests.integration.storage.waits import until_blocked


async def test_what_waits_is_cancelled_at_once(stage: Stage) -> None:
    queued, delayed = new_task(), new_task(extras=TaskExtras(delay_ms=60_000))
    await stage.submit(queued, delayed)
    found = await stage.cancels.cancel([queued.task_id, delayed.task_id], "enough")
    assert {each.task_id for each in found} == {queued.task_id, delayed.task_id}
    for task in (queued, delayed):
        assert await stage.state(task.task_id) is TaskState.CANCELLED
        assert (await stage.runs(task.task_id))[0]["reason"] == "enough"


async def test_what_runs_is_flagged_and_keeps_its_token(stage: Stage) -> None:
    opened, run = await stage.running()
    (found,) = await stage.cancels.cancel([run.task_id], "enough")
    assert (found.token, found.session_id) == (run.token, opened.session_id)
    (order,) = await stage.sessions.cancels([opened.session_id])
    assert (order.token, order.reason) == (run.token, "enough")
    assert await stage.state(run.task_id) is TaskState.RUNNING


async def test_a_second_cancel_finds_the_flag(stage: Stage) -> None:
    _, run = await stage.running()
    await stage.cancels.cancel([run.task_id], "first")
    assert await stage.cancels.cancel([run.task_id], "second") == []
    (standing,) = await stage.cancels.standing([run.task_id])
    assert standing.flagged
    assert await stage.execute("select cancel_reason from lease") == "first"


async def test_ended_and_unknown_tasks_stand_as_they_are(stage: Stage) -> None:
    _, run = await stage.running()
    await stage.end(run, Outcome.COMPLETED)
    unknown = make_id()
    assert await stage.cancels.cancel([run.task_id, unknown], "enough") == []
    ended, missing = await stage.cancels.standing([run.task_id, unknown])
    assert (ended.known, ended.live) == (True, False)
    assert not missing.known


async def test_a_cancel_that_waited_for_an_assign_must_look_again(stage: Stage, connection: Any) -> None:
    """Rule 4: its snapshot shows a ready row that is gone and no lease; `standing` says live."""
    (task_id,) = await stage.submitted()
    opened = await stage.session()
    async with connection.transaction():
        await connection.execute("delete from ready where task_id = $1", task_id)
        await connection.execute(
            "insert into lease select id, lane, rank, 7, $2, 1, now(), null, 0, 0, 0, 0, false"
            " from task where id = $1",
            task_id,
            opened.session_id,
        )
        cancelling = asyncio.create_task(stage.cancels.cancel([task_id], "enough"))
        await until_blocked(connection)
    assert await cancelling == []
    (standing,) = await stage.cancels.standing([task_id])
    assert standing.live
    assert len(await stage.cancels.cancel([task_id], "enough")) == 1


async def test_a_swept_session_obeys_the_cancels_of_its_leases(stage: Stage) -> None:
    opened, run = await stage.running()
    await stage.cancels.cancel([run.task_id], "enough")
    await stage.expire(opened.session_id)
    await stage.sessions.sweep(opened.session_id)
    assert await stage.state(run.task_id) is TaskState.CANCELLED


async def test_a_retry_reopens_an_ended_task_with_all_its_attempts(stage: Stage) -> None:
    opened, run = await stage.running()
    await stage.end(run, Outcome.FAILED)
    (requeued,) = await stage.cancels.retry([run.task_id])
    assert requeued.task_id == run.task_id
    (again,) = await stage.assign(opened)
    assert (again.run_number, again.attempt_number) == (1, 0)


async def test_two_retries_of_one_failure_are_one(stage: Stage, rival: Stage) -> None:
    """Rule 2: whoever inserts the reopening first has made it."""
    _, run = await stage.running()
    await stage.end(run, Outcome.FAILED)
    found = await asyncio.gather(
        *(each.cancels.retry([run.task_id]) for each in (stage, rival, stage, rival))
    )
    assert sum(map(len, found)) == 1
    assert await stage.execute("select count(*) from ready") == 1
    assert await stage.cancels.reopened([run.task_id]) == {run.task_id}


async def test_a_retry_that_lost_a_race_sees_the_reopening_only_afterwards(
    stage: Stage, connection: Any
) -> None:
    _, run = await stage.running()
    await stage.end(run, Outcome.FAILED)
    async with connection.transaction():
        await connection.execute("insert into reopen values ($1, 0)", run.task_id)
        await connection.execute(
            "insert into ready select id, lane, rank, now(), 1, 0, 0, 0, false from task where id = $1",
            run.task_id,
        )
        retrying = asyncio.create_task(stage.cancels.retry([run.task_id]))
        await until_blocked(connection)
    assert await retrying == []
    assert await stage.execute("select count(*) from ready") == 1


async def test_live_tasks_are_not_reopened(stage: Stage) -> None:
    opened, run = await stage.running(max_retries=1)
    assert await stage.cancels.retry([run.task_id]) == []
    await stage.end(run, Outcome.FAILED)
    assert await stage.cancels.retry([run.task_id]) == []
    assert await stage.state(run.task_id) is TaskState.RETRYING
    assert opened.generation == 0


async def test_due_tasks_are_promoted_once_by_two_brokers(stage: Stage, rival: Stage) -> None:
    tasks = [new_task(extras=TaskExtras(delay_ms=60_000)) for _ in range(40)]
    await stage.submit(*tasks)
    await stage.execute("update delayed set run_at = now() - interval '1 second'")
    moved = await asyncio.gather(
        *(each.promotes.promote(ZERO, 10) for each in (stage, rival) for _ in range(4))
    )
    assert sum(promoted.moved for part in moved for promoted in part) == 40
    assert await stage.execute("select count(*) from ready") == 40


async def test_a_promoted_retry_arrives_anew(stage: Stage) -> None:
    """A retry does not overtake what came while it waited."""
    opened, run = await stage.running(max_retries=1)
    await stage.end(run, Outcome.FAILED)
    (newer,) = await stage.submitted()
    await stage.due_now()
    (first,) = await stage.assign(opened)
    assert first.task_id == newer


async def test_the_promoter_knows_how_long_nothing_is_due(stage: Stage) -> None:
    promotes: PromoteStore = stage.promotes
    assert (await promotes.next_due(ZERO)).wait_s is None
    await stage.submit(new_task(extras=TaskExtras(delay_ms=60_000)))
    wait_s = (await promotes.next_due(ZERO)).wait_s
    assert wait_s is not None
    assert 59 < wait_s <= 60
    assert await promotes.promote(ZERO, 10) == []


async def test_the_end_of_a_session_by_its_launcher_needs_its_secret(stage: Stage) -> None:
    opened, run = await stage.running()
    with pytest.raises(SessionSecretInvalid):
        await stage.sessions.end(opened.session_id, b"wrong", Outcome.LOST, "test")
    assert await stage.state(run.task_id) is TaskState.RUNNING
    ended = await stage.sessions.end(opened.session_id, SECRET, Outcome.LOST, "worker killed")
    assert ended.task_ids == [run.task_id]
    assert (await stage.runs(run.task_id))[0]["reason"] == "worker killed"


async def test_what_somebody_cancelled_says_that_it_was_asked_for(stage: Stage) -> None:
    """Waiting or running; a run that ended in another way has no cause."""
    _, run = await stage.running()
    (waiting,) = await stage.submitted()
    await stage.cancels.cancel([waiting, run.task_id], "enough")
    await stage.end(run, Outcome.FAILED)
    _, failed = await stage.running()
    await stage.end(failed, Outcome.FAILED)
    views = await TaskReads(stage.database).tasks([waiting, run.task_id, failed.task_id], FULL)
    causes = {view.task_id: view.runs[-1].cause for view in views}
    asked = CancelCause.REQUESTED
    assert causes == {waiting: asked, run.task_id: asked, failed.task_id: None}


async def test_only_a_bad_end_for_good_is_dismissed_and_the_next_one_is_another(stage: Stage) -> None:
    ends = []
    for outcome in (Outcome.FAILED, Outcome.TIMED_OUT, Outcome.LOST, Outcome.CANCELLED, Outcome.COMPLETED):
        _, run = await stage.running()
        await stage.end(run, outcome, retryable=False) if outcome is not Outcome.LOST else None
        if outcome is Outcome.LOST:
            await stage.execute("delete from lease where task_id = $1", run.task_id)
            await stage.execute(
                "insert into task_run (task_id, run_number, attempt_number, outcome, final)"
                " values ($1, 0, 0, 6, true)",
                run.task_id,
            )
        ends.append(run.task_id)
    (waiting,) = await stage.submitted()
    for _ in range(2):  # repeated, it says the same
        assert await stage.cancels.dismiss([*ends, waiting, make_id()], "ada") == set(ends[:3])
    assert await stage.execute("select count(*) from dismissal where who = 'ada'") == 3
    reads = TaskReads(stage.database)
    assert [(await reads.tasks([each], FULL))[0].dismissed for each in ends] == [True] * 3 + [False] * 2
    await stage.cancels.retry(ends[:1])
    assert await stage.cancels.dismiss(ends[:1], "ada") == set()
    assert not (await reads.tasks(ends[:1], FULL))[0].dismissed
