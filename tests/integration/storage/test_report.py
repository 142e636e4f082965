"""Ends of runs: recorded once, under the token only, and followed by what is due."""

import asyncio
from datetime import datetime, timedelta
from typing import Any

import pytest

from hyrex_broker.domain.model import Outcome, RunEnd, SessionId, Token
from hyrex_broker.domain.states import TaskState
from hyrex_broker.storage.report import EVER, REDELIVERIES_BOUND, RELEASES_BOUND, Overdue
from tests.integration.storage.stage import Stage, end_of
from tests.integration.storage.waits import until_blocked


async def test_a_completed_run_is_recorded_with_its_result(stage: Stage) -> None:
    opened, run = await stage.running()
    await stage.end(run, Outcome.COMPLETED, result=b"42", content_type="text/plain")
    assert await stage.state(run.task_id) is TaskState.COMPLETED
    (recorded,) = await stage.runs(run.task_id)
    assert recorded["result"] == b"42"
    assert recorded["session_id"] == opened.session_id
    assert recorded["token"] == run.token


async def test_a_stale_token_changes_nothing(stage: Stage) -> None:
    _, run = await stage.running()
    forged = end_of(run, Outcome.COMPLETED, token=Token(run.token + 1))
    assert await stage.ended([forged]) == []
    (unmatched,) = await stage.classify_reports([forged])
    assert not unmatched.recorded
    assert not unmatched.held
    assert await stage.state(run.task_id) is TaskState.RUNNING


async def test_a_resent_report_is_known_by_its_token(stage: Stage) -> None:
    _, run = await stage.running()
    await stage.end(run, Outcome.COMPLETED)
    assert await stage.end(run, Outcome.COMPLETED) == []
    (unmatched,) = await stage.classify_reports([end_of(run, Outcome.COMPLETED)])
    assert unmatched.recorded


async def test_a_report_that_waited_for_a_cancel_matches_nothing_and_is_still_held(
    stage: Stage, connection: Any
) -> None:
    """Rule 4: the cancel has replaced the lease, so the report must be repeated, and then obeys it."""
    _, run = await stage.running()
    async with connection.transaction():
        await connection.execute("delete from lease where task_id = $1", run.task_id)
        await connection.execute(
            "insert into lease select id, lane, rank, $2, $3, 1, now(), null, 0, 0, 0, 0, false, now(),"
            " 'stop' from task where id = $1",
            run.task_id,
            run.token,
            run.session_id,
        )
        reporting = asyncio.create_task(stage.end(run, Outcome.FAILED))
        await until_blocked(connection)
    assert await reporting == []
    (unmatched,) = await stage.classify_reports([end_of(run, Outcome.FAILED)])
    assert unmatched.held
    await stage.end(run, Outcome.FAILED)
    assert await stage.state(run.task_id) is TaskState.CANCELLED


async def test_two_brokers_that_get_one_report_record_it_once(stage: Stage, rival: Stage) -> None:
    _, run = await stage.running()
    ended = await asyncio.gather(stage.end(run, Outcome.COMPLETED), rival.end(run, Outcome.COMPLETED))
    assert sorted(map(len, ended)) == [0, 1]
    assert len(await stage.runs(run.task_id)) == 1


@pytest.mark.parametrize("outcome", [Outcome.FAILED, Outcome.TIMED_OUT])
async def test_a_failed_run_is_repeated_while_attempts_are_left(stage: Stage, outcome: Outcome) -> None:
    opened, run = await stage.running(max_retries=1, retry_delay_ms=0)
    await stage.end(run, outcome)
    (again,) = await stage.assign(opened)
    assert (again.run_number, again.attempt_number) == (1, 1)
    (last,) = await stage.end(again, outcome)
    assert last.requeued_in_ms is None
    assert [row["final"] for row in await stage.runs(run.task_id)] == [False, True]


async def test_the_worker_says_when_and_the_broker_says_whether(stage: Stage) -> None:
    """Rule 17: the worker's word, else the constant of the task, else the default of 1 s +-20%."""
    _, said = await stage.running(max_retries=3, retry_delay_ms=9_000)
    (ended,) = await stage.end(said, Outcome.FAILED, retry_delay_ms=4_000)
    assert ended.requeued_in_ms == 4_000
    _, constant = await stage.running(max_retries=3, retry_delay_ms=9_000)
    (ended,) = await stage.end(constant, Outcome.FAILED)
    assert ended.requeued_in_ms == 9_000
    _, default = await stage.running(max_retries=3)
    (ended,) = await stage.end(default, Outcome.FAILED)
    assert ended.requeued_in_ms is not None
    assert 800 <= ended.requeued_in_ms <= 1_200
    _, refused = await stage.running(max_retries=3)
    (ended,) = await stage.end(refused, Outcome.FAILED, retryable=False)
    assert ended.requeued_in_ms is None
    _, exhausted = await stage.running(max_retries=0)
    (ended,) = await stage.end(exhausted, Outcome.FAILED, retry_delay_ms=1)
    assert ended.requeued_in_ms is None


@pytest.mark.parametrize(
    "outcome", [Outcome.FAILED, Outcome.TIMED_OUT, Outcome.LOST, Outcome.RELEASED, Outcome.CANCELLED]
)
async def test_whoever_removes_a_flagged_lease_obeys_the_cancel(stage: Stage, outcome: Outcome) -> None:
    """Rule 5."""
    _, run = await stage.running(max_retries=5)
    await stage.cancels.cancel([run.task_id], "enough")
    await stage.end(run, outcome)
    assert await stage.state(run.task_id) is TaskState.CANCELLED
    assert (await stage.runs(run.task_id))[0]["reason"] == "enough"


async def test_a_result_that_came_in_spite_of_a_cancel_stays(stage: Stage) -> None:
    _, run = await stage.running()
    await stage.cancels.cancel([run.task_id], "enough")
    await stage.end(run, Outcome.COMPLETED, result=b"1")
    assert await stage.state(run.task_id) is TaskState.COMPLETED


async def test_a_loss_costs_no_attempt_and_the_suspect_reruns_alone(stage: Stage) -> None:
    opened, run = await stage.running(max_retries=0)
    (ended,) = await stage.end(run, Outcome.LOST, reason="host lost")
    assert ended.requeued_in_ms == 0
    (again,) = await stage.assign(opened)
    assert (again.run_number, again.attempt_number, again.alone) == (1, 0, True)


async def test_losses_among_others_do_not_count_against_the_bound(stage: Stage) -> None:
    """Rule 16: only a run that was alone in its child is to blame."""
    opened, run = await stage.running()
    await stage.end(run, Outcome.LOST)
    assert await stage.execute("select redeliveries from ready") == 0
    (run,) = await stage.assign(opened)
    await stage.end(run, Outcome.LOST)
    assert await stage.execute("select redeliveries from ready") == 1


async def test_a_poison_task_ends_as_lost_after_its_redeliveries_back_off(stage: Stage) -> None:
    opened, run = await stage.running()
    delays = []
    for _ in range(REDELIVERIES_BOUND):
        (ended,) = await stage.end(run, Outcome.LOST, alone=True, reason="child exited with SIGKILL")
        delays.append(ended.requeued_in_ms)
        await stage.due_now()
        (run,) = await stage.assign(opened)
    (ended,) = await stage.end(run, Outcome.LOST, alone=True, reason="child exited with SIGKILL")
    assert ended.requeued_in_ms is None
    assert delays == [0, 1_000, 5_000, 30_000, 30_000]
    assert await stage.state(run.task_id) is TaskState.LOST
    assert [row["outcome"] for row in await stage.runs(run.task_id)] == [6] * (REDELIVERIES_BOUND + 1)
    assert (await stage.runs(run.task_id))[-1]["reason"] == "child exited with SIGKILL"


async def test_a_release_before_the_start_leaves_no_trace(stage: Stage) -> None:
    opened, run = await stage.running()
    await stage.end(run, Outcome.RELEASED, elapsed_us=None)
    assert await stage.runs(run.task_id) == []
    (again,) = await stage.assign(opened)
    assert (again.run_number, again.attempt_number, again.alone) == (0, 0, False)


async def test_a_release_after_the_start_is_recorded_and_costs_nothing(stage: Stage) -> None:
    opened, run = await stage.running()
    await stage.end(run, Outcome.RELEASED, elapsed_us=5)
    (again,) = await stage.assign(opened)
    assert (again.run_number, again.attempt_number, again.alone) == (1, 0, False)


async def test_a_hundred_releases_in_a_row_end_as_lost(stage: Stage) -> None:
    opened, run = await stage.running()
    await stage.execute("update lease set releases = $1", RELEASES_BOUND - 1)
    await stage.end(run, Outcome.RELEASED, elapsed_us=None)
    (run,) = await stage.assign(opened)
    await stage.end(run, Outcome.RELEASED, elapsed_us=None)
    assert await stage.state(run.task_id) is TaskState.LOST


async def test_a_run_that_ends_otherwise_breaks_the_row_of_releases(stage: Stage) -> None:
    opened, run = await stage.running(max_retries=1)
    await stage.execute("update lease set releases = $1", RELEASES_BOUND)
    await stage.end(run, Outcome.FAILED, retry_delay_ms=0)
    (run,) = await stage.assign(opened)
    await stage.end(run, Outcome.RELEASED, elapsed_us=None)
    assert await stage.state(run.task_id) is TaskState.QUEUED


async def test_one_batch_may_hold_ends_of_every_kind(stage: Stage) -> None:
    await stage.submitted(6, max_retries=1)
    opened = await stage.session()
    runs = await stage.assign(opened, 6)
    outcomes = list(Outcome)
    ended = await stage.ended([end_of(run, outcome) for run, outcome in zip(runs, outcomes, strict=True)])
    assert len(ended) == 6
    assert await stage.execute("select count(*) from lease") == 0
    assert sum(each.requeued_in_ms is None for each in ended) == 2


async def overdue_now(stage: Stage, session: SessionId, mark: datetime = EVER) -> list[Overdue]:
    found, _ = await stage.reports.overdue([session], 10, mark)
    return found


async def test_what_was_overdue_before_the_mark_is_not_read_again(stage: Stage) -> None:
    opened, run = await stage.running(timeout_ms=1)
    await stage.execute("update lease set deadline = now() - interval '1 minute'")
    now = (await stage.reports.overdue([opened.session_id], 10))[1]
    assert len(await overdue_now(stage, opened.session_id, now - timedelta(seconds=61))) == 1
    assert await overdue_now(stage, opened.session_id, now - timedelta(seconds=30)) == []
    await stage.execute("update lease set deadline = null")
    await stage.cancels.cancel([run.task_id], "enough")
    await stage.execute("update lease set cancel_at = now() - interval '2 minutes'")
    assert len(await overdue_now(stage, opened.session_id, now - timedelta(seconds=120))) == 1
    assert await overdue_now(stage, opened.session_id, now) == []


async def test_overdue_leases_are_found_for_the_backstop(stage: Stage) -> None:
    opened, run = await stage.running(timeout_ms=1)
    assert await overdue_now(stage, opened.session_id) == []
    await stage.execute("update lease set deadline = now() - interval '1 second'")
    (overdue,) = await overdue_now(stage, opened.session_id)
    assert overdue.lease.token == run.token


async def test_a_cancel_that_is_not_obeyed_is_found_for_the_backstop(stage: Stage) -> None:
    opened, run = await stage.running()
    await stage.cancels.cancel([run.task_id], "enough")
    assert await overdue_now(stage, opened.session_id) == []
    await stage.execute("update lease set cancel_at = now() - interval '28 seconds'")
    # 15 s and the lease: its worker may have been cut off for most of that.
    assert await overdue_now(stage, opened.session_id) == []
    await stage.execute("update lease set cancel_at = now() - interval '31 seconds'")
    (overdue,) = await overdue_now(stage, opened.session_id)
    await stage.reports.end(
        [RunEnd(overdue.lease.task_id, overdue.lease.token, overdue.session_id, Outcome.TIMED_OUT)]
    )
    assert await stage.state(run.task_id) is TaskState.CANCELLED


async def test_a_report_by_another_session_changes_nothing(stage: Stage) -> None:
    """Whoever learns a token, by whatever way, can do nothing with it but in the session that holds it."""
    _, run = await stage.running()
    other = await stage.session()
    for outcome in Outcome:
        forged = end_of(run, outcome, session_id=other.session_id, result=b'"FORGED"')
        assert await stage.ended([forged]) == []
        (unmatched,) = await stage.classify_reports([forged])
        assert (unmatched.recorded, unmatched.held) == (False, False)
    assert await stage.state(run.task_id) is TaskState.RUNNING
    (ended,) = await stage.end(run, Outcome.COMPLETED, result=b"42")
    assert ended.session_id == run.session_id
    # Nor does it learn that there was such a run.
    (unmatched,) = await stage.classify_reports([forged])
    assert not unmatched.recorded


@pytest.mark.parametrize("outcome", [Outcome.COMPLETED, Outcome.CANCELLED])
async def test_one_batch_holds_reports_of_many_sessions(stage: Stage, outcome: Outcome) -> None:
    """Each is about its own session's lease."""
    opened = [await stage.session() for _ in range(3)]
    await stage.submitted(3)
    runs = [(await stage.assign(each))[0] for each in opened]
    ends = [end_of(run, outcome) for run in runs]
    ends[1].session_id = opened[0].session_id
    ended = await stage.ended(ends)
    assert {each.task_id for each in ended} == {runs[0].task_id, runs[2].task_id}
    states = await stage.classify_reports(ends)
    assert [(state.recorded, state.held) for state in states] == [
        (True, False),
        (False, False),
        (True, False),
    ]


async def test_a_failure_of_a_task_that_is_not_stored_is_its_end(stage: Stage) -> None:
    """Whether it runs again was neither true nor false, which refused the whole batch."""
    _, run = await stage.running(max_retries=3)
    await stage.execute("delete from task where id = $1", run.task_id)
    await stage.end(run, Outcome.FAILED, error_type="ValueError")
    assert await stage.state(run.task_id) is TaskState.FAILED


async def test_where_in_the_users_code_an_error_was_raised_is_kept(stage: Stage) -> None:
    _, run = await stage.running()
    await stage.end(run, Outcome.FAILED, error_type="ValueError", error_place="shop.mail:41 in send")
    ((kept,),) = [[each["error_place"]] for each in await stage.runs(run.task_id)]
    assert kept == "shop.mail:41 in send"
