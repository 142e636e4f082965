"""Sessions: alive by database time, owned by one broker, swept once."""

import asyncio
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from hyrex_broker.domain.errors import SessionEnded, SessionSecretInvalid
from hyrex_broker.domain.model import Outcome
from hyrex_broker.domain.states import TaskState
from hyrex_broker.storage.peers import NEWEST, PeerStore
from hyrex_broker.storage.sessions import Beat
from tests.integration.storage.stage import INFO, LEASE, SECRET, Stage
from tests.integration.storage.waits import until_blocked


async def test_a_renewal_prolongs_by_the_lease_and_keeps_the_receipt(stage: Stage) -> None:
    opened = await stage.session()
    await stage.execute("update worker_session set expires_at = now() + interval '1 second'")
    (renewal,) = await stage.sessions.renew(stage.broker, [Beat(opened.session_id, 0, 7)])
    assert renewal.session_id == opened.session_id
    left = await stage.execute("select expires_at - now() from worker_session")
    assert LEASE - timedelta(seconds=2) < left <= LEASE
    assert await stage.execute("select received_through from worker_session") == 7


async def test_a_session_that_nobody_has_ended_lives_on_whatever_the_clock_says(stage: Stage) -> None:
    """Rule 8: a clock that jumped ahead ends nobody who speaks. The leases still stand, and a sweep that
    would take them locks the session first."""
    opened, run = await stage.running()
    await stage.expire(opened.session_id)
    beat = Beat(opened.session_id, 0, 0)
    (state,) = await stage.sessions.ownership(stage.broker, [beat])
    assert not state.ended
    await stage.submitted()
    assert len(await stage.assign(opened)) == 1
    assert len(await stage.sessions.renew(stage.broker, [beat])) == 1
    assert await stage.sessions.sweep(opened.session_id) is None
    await stage.expire(opened.session_id)
    taken = await stage.sessions.take_over(stage.broker, opened.session_id, SECRET, INFO, 0)
    assert run.token in {held.lease.token for held in taken.leases}


async def test_an_ended_session_is_never_resurrected(stage: Stage) -> None:
    opened = await stage.session()
    await stage.expire(opened.session_id)
    await stage.sessions.sweep(opened.session_id)
    beat = Beat(opened.session_id, 0, 0)
    assert await stage.sessions.renew(stage.broker, [beat]) == []
    (state,) = await stage.sessions.ownership(stage.broker, [beat])
    assert state.ended
    with pytest.raises(SessionEnded):
        await stage.sessions.take_over(stage.broker, opened.session_id, SECRET, INFO, 0)


async def test_a_renewal_passes_over_what_a_sweeper_holds(stage: Stage, connection: Any) -> None:
    held, free = await stage.session(), await stage.session()
    beats = [Beat(each.session_id, 0, 0) for each in (held, free)]
    async with connection.transaction():
        await connection.execute("select from worker_session where id = $1 for update", held.session_id)
        renewed = await stage.sessions.renew(stage.broker, beats)
    assert [renewal.session_id for renewal in renewed] == [free.session_id]
    (state,) = await stage.sessions.ownership(stage.broker, beats[:1])
    assert not state.ended
    assert not state.taken


async def test_a_session_taken_over_is_not_renewed_by_its_old_owner(stage: Stage, rival: Stage) -> None:
    opened = await stage.session()
    taken = await rival.sessions.take_over(rival.broker, opened.session_id, SECRET, INFO, 0)
    assert taken.generation == opened.generation + 1
    beat = Beat(opened.session_id, opened.generation, 0)
    assert await stage.sessions.renew(stage.broker, [beat]) == []
    (state,) = await stage.sessions.ownership(stage.broker, [beat])
    assert state.taken


async def test_a_second_stream_at_the_same_broker_makes_the_first_one_old(stage: Stage) -> None:
    opened = await stage.session()
    await stage.sessions.take_over(stage.broker, opened.session_id, SECRET, INFO, 0)
    beat = Beat(opened.session_id, opened.generation, 0)
    assert await stage.sessions.renew(stage.broker, [beat]) == []


async def test_a_session_is_only_resumed_with_its_secret(stage: Stage) -> None:
    opened = await stage.session()
    with pytest.raises(SessionSecretInvalid):
        await stage.sessions.take_over(stage.broker, opened.session_id, b"guess", INFO, 0)


async def test_a_drain_that_an_operator_wants_survives_a_reconnect(stage: Stage) -> None:
    opened = await stage.session()
    await stage.execute("update worker_session set draining = true")
    taken = await stage.sessions.take_over(stage.broker, opened.session_id, SECRET, INFO, 0)
    (renewal,) = await stage.sessions.renew(stage.broker, [Beat(opened.session_id, taken.generation, 0)])
    assert renewal.draining
    assert (taken.draining, taken.self_draining) == (True, False)


async def test_a_worker_that_wants_no_more_work_is_known_to_whoever_resumes_it(stage: Stage) -> None:
    """Its own word is not an operator's wish, and is never unsaid."""
    opened = await stage.session()
    for said in (True, False):
        beat = Beat(opened.session_id, opened.generation, 0, self_draining=said)
        (renewal,) = await stage.sessions.renew(stage.broker, [beat])
        assert not renewal.draining
    (listed,) = await PeerStore(stage.database).sessions(NEWEST, 10, ended=False)
    assert listed.draining
    taken = await stage.sessions.take_over(stage.broker, opened.session_id, SECRET, INFO, 0)
    assert (taken.draining, taken.self_draining) == (False, True)


async def test_expiry_records_the_runs_as_lost_and_redelivers_them(stage: Stage) -> None:
    opened, run = await stage.running()
    await stage.sessions.renew(stage.broker, [Beat(opened.session_id, 0, run.sequence)])
    await stage.expire(opened.session_id)
    assert (await stage.sessions.expired(10))[0] == [opened.session_id]
    ended = await stage.sessions.sweep(opened.session_id)
    assert ended is not None
    assert ended.task_ids == [run.task_id]
    assert await stage.state(run.task_id) is TaskState.QUEUED
    (lost,) = await stage.runs(run.task_id)
    assert (lost["outcome"], lost["reason"]) == (Outcome.LOST, "session of worker worker-1 expired")


async def test_what_has_no_receipt_returns_at_no_cost(stage: Stage) -> None:
    """Rule 7. It may have begun since the last heartbeat, so its number is not used again."""
    opened, run = await stage.running()
    await stage.expire(opened.session_id)
    await stage.sessions.sweep(opened.session_id)
    assert [row["outcome"] for row in await stage.runs(run.task_id)] == [Outcome.RELEASED]
    (again,) = await stage.assign(await stage.session())
    assert (again.run_number, again.attempt_number, again.alone) == (1, 0, False)


async def test_a_late_report_of_a_swept_session_is_stale(stage: Stage) -> None:
    opened, run = await stage.running()
    await stage.expire(opened.session_id)
    await stage.sessions.sweep(opened.session_id)
    assert await stage.end(run, Outcome.COMPLETED, result=b"late") == []
    assert await stage.state(run.task_id) is TaskState.QUEUED


async def test_a_report_between_expiry_and_sweep_is_still_accepted(stage: Stage) -> None:
    """Results already held are accepted while the lease stands, whatever the session's state."""
    opened, run = await stage.running()
    await stage.expire(opened.session_id)
    await stage.end(run, Outcome.COMPLETED)
    ended = await stage.sessions.sweep(opened.session_id)
    assert ended is not None
    assert ended.ended == []
    assert await stage.state(run.task_id) is TaskState.COMPLETED


async def test_a_sweeper_rechecks_the_deadline_under_its_lock(stage: Stage) -> None:
    """Rule 8: the session was renewed between the look and the lock."""
    opened = await stage.session()
    await stage.expire(opened.session_id)
    ((expired,), _) = await stage.sessions.expired(10)
    await stage.expire(opened.session_id, -60)
    assert await stage.sessions.sweep(expired) is None


async def test_two_sweepers_end_a_session_once(stage: Stage, rival: Stage) -> None:
    sessions = []
    for _ in range(5):
        opened, _ = await stage.running()
        await stage.expire(opened.session_id)
        sessions.append(opened.session_id)
    swept = await asyncio.gather(
        *(each.sessions.sweep(session) for each in (stage, rival) for session in sessions * 3)
    )
    assert sorted(ended.session_id for ended in swept if ended is not None) == sessions
    assert await stage.execute("select count(*) from lease") == 0
    assert await stage.execute("select count(*) from ready") == 5


async def test_a_sweep_that_waited_for_an_assign_takes_its_leases_too(stage: Stage, connection: Any) -> None:
    """No orphan: the leases are read in the statement after the lock."""
    (task_id,) = await stage.submitted()
    opened = await stage.session()
    async with connection.transaction():
        await connection.execute("select from worker_session where id = $1 for key share", opened.session_id)
        ending = asyncio.create_task(
            stage.sessions.end(opened.session_id, SECRET, Outcome.RELEASED, "goodbye")
        )
        await until_blocked(connection)
        await connection.execute("delete from ready where task_id = $1", task_id)
        await connection.execute(
            "insert into lease select id, lane, rank, 7, $2, 1, now(), null, 0, 0, 0, 0, false"
            " from task where id = $1",
            task_id,
            opened.session_id,
        )
    assert (await ending).task_ids == [task_id]
    assert await stage.state(task_id) is TaskState.QUEUED


async def test_an_ended_session_is_over_for_everybody(stage: Stage) -> None:
    opened = await stage.session()
    await stage.sessions.end(opened.session_id, SECRET, Outcome.RELEASED, "goodbye")
    for attempt in (
        stage.sessions.end(opened.session_id, SECRET, Outcome.LOST, "again"),
        stage.sessions.take_over(stage.broker, opened.session_id, SECRET, INFO, 0),
    ):
        with pytest.raises(SessionEnded):
            await attempt


async def test_sessions_end_with_a_reason_each(stage: Stage) -> None:
    sessions = [await stage.session(replace(INFO, worker_name=name)) for name in ("a", "b")]
    for opened in sessions:
        await stage.expire(opened.session_id)
        await stage.sessions.sweep(opened.session_id)
    rows = await stage.database.fetch("select end_reason from worker_session order by id")
    assert [row[0] for row in rows] == ["session of worker a expired", "session of worker b expired"]


async def test_no_statement_outlives_the_marks(stage: Stage) -> None:
    """Rule 11: no statement takes as long as the marks lag."""
    assert await stage.execute("show statement_timeout") == "2500ms"


@pytest.mark.parametrize("ended_by", ["sweep", "worker"])
async def test_a_session_that_has_ended_has_no_lease_left_to_report(stage: Stage, ended_by: str) -> None:
    """So a worker that begins a new session takes nothing over but its age."""
    opened, run = await stage.running()
    assert [each.lease.token for each in await stage.sessions.leases([opened.session_id])] == [run.token]
    await stage.expire(opened.session_id)
    if ended_by == "sweep":
        await stage.sessions.sweep(opened.session_id)
    else:
        await stage.sessions.end(opened.session_id, SECRET, Outcome.LOST, "ended")
    assert await stage.sessions.leases([opened.session_id]) == []
    assert await stage.assign(opened) == []
    assert await stage.sessions.leases([opened.session_id]) == []


async def test_sessions_of_a_worker_one_after_the_other_have_one_origin(stage: Stage) -> None:
    first = await stage.session()
    session = first
    for _ in range(10):
        await stage.sessions.end(session.session_id, SECRET, Outcome.LOST, "ended")
        origin = await stage.sessions.origin(session.session_id, SECRET)
        assert origin == first.session_id
        session = await stage.sessions.open(stage.broker, SECRET, INFO, origin)


async def test_nobody_follows_a_session_without_its_secret(stage: Stage) -> None:
    opened, _ = await stage.running()
    await stage.expire(opened.session_id)
    with pytest.raises(SessionSecretInvalid):
        await stage.sessions.origin(opened.session_id, b"guess")
    with pytest.raises(SessionSecretInvalid):
        await stage.sessions.take_over(stage.broker, opened.session_id, b"guess", INFO, 0)
    await stage.sessions.sweep(opened.session_id)
    assert await stage.sessions.origin(opened.session_id, SECRET) == opened.session_id
    await stage.execute("delete from worker_session")
    assert await stage.sessions.origin(opened.session_id, SECRET) is None
