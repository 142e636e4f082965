"""Heartbeats, cancels and sweeps of a running engine."""

import asyncio
import time
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest

from hyrex_broker.domain.model import CancelOutcome, Outcome, RetryOutcome, SessionId
from hyrex_broker.engine.liveness import sweeper as sweeper_module
from hyrex_broker.storage.endings import EndedSession
from hyrex_broker.storage.sessions import Ownership, SessionStore
from tests.integration.engine.bench import Bench, Link, running_engine
from tests.integration.storage.stage import end_of, make_id, new_task
from tests.integration.storage.waits import until_blocked
from tests.support.postgres import connect


async def until_acked(link: Link, count: int = 1) -> None:
    async with asyncio.timeout(60):
        while len(link.acks) < count:
            link.pushed.clear()
            await link.pushed.wait()


async def test_a_heartbeat_is_answered_with_what_is_void_and_what_must_stop(bench: Bench) -> None:
    session, link = await bench.worker()
    await bench.submit([new_task(), new_task()])
    stopped, kept = await link.until_runs(2)
    await bench.engine.cancels.cancel([stopped.task_id], "enough")
    assert [order.token for order in link.cancels] == [stopped.token]
    bench.engine.heartbeats.beat(session, 7, [stopped.token, kept.token, 99], link.frames[-1][0])  # type: ignore[list-item]
    await until_acked(link)
    sequence, revoked, cancels = link.acks[0]
    assert sequence == 7
    assert [ref.token for ref in revoked] == [99]
    assert [order.token for order in cancels] == [stopped.token]


async def test_a_late_heartbeat_of_an_old_stream_does_not_silence_the_new_one(bench: Bench) -> None:
    session, link = await bench.worker()
    await bench.submit([new_task()])
    await link.until_runs(1)
    resumption, resumed = await bench.resumed(session)
    bench.engine.heartbeats.beat(resumption.session, 5, [], 0)
    assert bench.engine.heartbeats.beat(session, 4, [], link.frames[0][0]) == []
    await until_acked(resumed)
    assert resumed.acks[0][0] == 5
    assert link.acks == []


async def test_a_heartbeat_that_meets_its_goodbye_is_no_error(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The goodbye is stored, and the heartbeat before it is renewed before the goodbye is answered."""
    session, link = await bench.worker()
    end, looked = SessionStore.end, asyncio.Event()

    async def stored(self: SessionStore, *args: Any) -> EndedSession:
        ended = await end(self, *args)
        bench.engine.heartbeats.beat(session, 1, [], 0)
        await looked.wait()
        return ended

    async def ownership(self: SessionStore, *args: Any) -> list[Ownership]:
        found = await look(self, *args)
        asyncio.get_running_loop().call_soon(looked.set)
        return found

    look = SessionStore.ownership
    monkeypatch.setattr(SessionStore, "end", stored)
    monkeypatch.setattr(SessionStore, "ownership", ownership)
    async with asyncio.timeout(60):
        await bench.engine.reports.end_session(session.session_id, session.secret, Outcome.RELEASED, "left")
    assert link.error is None


async def test_a_cancel_is_answered_by_what_it_found(bench: Bench) -> None:
    _, link = await bench.worker(capacity=2)
    running, ended, queued = new_task(), new_task(), new_task()
    await bench.submit([running, ended])
    runs = {run.task_id: run for run in await link.until_runs(2)}
    await bench.submit([queued])
    await bench.report([end_of(runs[ended.task_id], Outcome.COMPLETED)])
    queued = new_task(name="unserved")
    await bench.submit([queued])
    unknown = make_id()
    outcomes = await bench.engine.cancels.cancel(
        [running.task_id, ended.task_id, queued.task_id, unknown, running.task_id], "enough"
    )
    assert outcomes == [
        CancelOutcome.REQUESTED, CancelOutcome.FINISHED, CancelOutcome.CANCELLED, CancelOutcome.NOT_FOUND,
        CancelOutcome.REQUESTED,
    ]  # fmt: skip
    assert await bench.engine.cancels.retry([ended.task_id, running.task_id, unknown]) == [
        RetryOutcome.REQUEUED, RetryOutcome.NOT_FINAL, RetryOutcome.NOT_FOUND,
    ]  # fmt: skip


async def test_a_sweeper_watches_for_a_lease_before_it_ends_anybody(storage_url: str) -> None:
    """Rule 8: it has just started, so an expired session proves nothing yet."""
    async with running_engine(storage_url, lease_s=1.5) as bench:
        began = asyncio.get_running_loop().time()
        _, link = await bench.worker()
        await bench.database.execute("update worker_session set expires_at = now() - interval '1 second'")
        async with asyncio.timeout(60):
            while link.error is None:
                link.pushed.clear()
                await link.pushed.wait()
        assert asyncio.get_running_loop().time() - began >= 1.4


async def until_ended(link: Link) -> None:
    async with asyncio.timeout(60):
        while link.error is None:
            link.pushed.clear()
            await link.pushed.wait()


async def test_a_sweep_that_meets_a_conflict_costs_neither_trust_nor_the_others(bench: Bench) -> None:
    """A deadlock proves that the database is there: only that session waits, for the next sweep."""
    (held, first), (_, second) = [await bench.worker(tasks=[name]) for name in ("work", "other")]
    await bench.submit([new_task()])
    await first.until_runs(1)
    await bench.database.execute("update worker_session set expires_at = now() - interval '1 second'")
    connection = await connect(bench.database.url)
    try:
        async with connection.transaction():
            await connection.execute("select from lease for update")
            bench.engine.sweeper._quiet_until = 0.0
            await until_blocked(connection)
            # Postgres cuts off whoever looks for a deadlock first: this one is not to.
            await connection.execute("set local deadlock_timeout = '1min'")
            await connection.execute("select from worker_session where id = $1 for update", held.session_id)
            await until_ended(second)
            assert first.error is None
        await until_ended(first)
    finally:
        await connection.close()
    assert bench.engine.sweeper._quiet_until == 0.0


async def test_sessions_that_hold_leases_are_swept_first_and_many_at_once(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever opens sessions and drops them must not delay the runs of a dead worker."""
    transactions, sweep_all = list[int](), SessionStore.sweep_all

    async def counted(self: SessionStore, sessions: Sequence[SessionId]) -> list[EndedSession]:
        transactions.append(len(sessions))
        return await sweep_all(self, sessions)

    monkeypatch.setattr(SessionStore, "sweep_all", counted)
    await bench.database.execute(
        "insert into worker_session (namespace, secret, owner, worker_name, host, pid, sdk, queue_patterns,"
        " task_names, capacity, expires_at)"
        " select 0, '', id, 'flood', '', 0, '', '{}', '{}', 1, now() - interval '1 minute'"
        " from broker, generate_series(1, 500)"
    )
    session, link = await bench.worker()
    await bench.submit([new_task()])
    await link.until_runs(1)
    await bench.database.execute("update worker_session set expires_at = now() - interval '1 second'")
    ended = await bench.engine.sweeper.sweep()
    assert session.session_id in ended[:50]
    assert len(ended) == 501
    assert len(transactions) <= 501 // 50 + 1, transactions
    row = await bench.database.fetchrow("select count(*) from worker_session where ended_at is null")
    assert row is not None
    assert row[0] == 0
    found, _ = await SessionStore.expired(bench.engine.sweeper._store, 10)
    assert found == []


async def test_a_session_that_cannot_be_ended_holds_up_no_other(database_url: str) -> None:
    async with running_engine(database_url) as bench:
        (held, first), (_, second) = [await bench.worker(tasks=[name]) for name in ("work", "other")]
        await bench.submit([new_task()])
        await first.until_runs(1)
        await bench.database.execute("update worker_session set expires_at = now() - interval '1 second'")
        today = f"task_run_{datetime.now(UTC):%Y%m%d}"
        await bench.database.execute(f"alter table task_run detach partition {today}")
        bench.engine.sweeper._quiet_until = 0.0
        await until_ended(second)
        assert await bench.engine.sweeper.sweep() == []
        assert first.error is None
        assert await bench.database.fetchrow("select true from lease where session_id = $1", held.session_id)


async def test_a_lane_that_another_broker_made_is_no_surprise(bench: Bench, storage_url: str) -> None:
    """A session of a dead broker is swept here, with leases of a lane that was never heard of here."""
    async with running_engine(storage_url) as other:
        session, link = await other.worker(tasks=["unheard"])
        await other.submit([new_task(name="unheard")])
        await link.until_runs(1)
        await bench.database.execute(
            "update worker_session set expires_at = now() - interval '1 second' where id = $1",
            session.session_id,
        )
        assert await bench.engine.sweeper.sweep() == [session.session_id]


async def test_a_jump_of_the_database_clock_makes_the_sweeper_wait(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rule 8: after it, "expired" proves nothing. The very look that sees it ends nobody."""
    session, link = await bench.worker()
    ahead_s = 0.0
    expired = SessionStore.expired

    async def jumped(self: SessionStore, limit: int) -> tuple[list[SessionId], float]:
        found, now_s = await expired(self, limit)
        return (found if not ahead_s else [session.session_id]), now_s + ahead_s

    monkeypatch.setattr(SessionStore, "expired", jumped)
    sweeper = bench.engine.sweeper
    await sweeper._look()
    sweeper._quiet_until = 0.0
    ahead_s = 60.0
    await bench.database.execute("update worker_session set expires_at = now() - interval '1 second'")
    await sweeper._look()
    await sweeper._look()
    assert link.error is None


def stand_still() -> None:
    """As under SIGSTOP: nothing of this process goes on. Shorter than any timeout of a statement: what is in
    flight meanwhile is not to make the sweeper wait in the place of the pause."""
    time.sleep(1.4)


async def test_a_pause_of_the_broker_makes_its_sweeper_wait(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stopped for longer than a lease: its workers could not be renewed, and are about to be."""
    session, link = await bench.worker()
    sweeper, expired = bench.engine.sweeper, SessionStore.expired
    paused = asyncio.Event()

    async def pause(seconds: float) -> None:
        if paused.is_set():
            await asyncio.sleep(seconds)
        else:
            stand_still()
            paused.set()

    async def all_expired(self: SessionStore, limit: int) -> tuple[list[SessionId], float]:
        _, now_s = await expired(self, limit)
        return [session.session_id], now_s

    await sweeper._look()
    await bench.database.execute("update worker_session set expires_at = now() - interval '1 second'")
    monkeypatch.setattr(SessionStore, "expired", all_expired)
    monkeypatch.setattr(sweeper_module, "asyncio", SimpleNamespace(sleep=pause))
    sweeper._interval_s, sweeper._quiet_until = 0.1, 0.0
    running = asyncio.ensure_future(sweeper.run())
    async with asyncio.timeout(60):
        while sweeper._quiet_until == 0.0 and link.error is None:
            await asyncio.sleep(0.01)
    running.cancel()
    assert link.error is None


async def test_a_jump_of_the_database_clock_ends_no_session_and_no_run(bench: Bench) -> None:
    """Ahead by five minutes: every session seems expired and every timeout long over. Moving all that the
    database knows of the past and the future is what such a jump does."""
    session, link = await bench.worker()
    await bench.submit([new_task(timeout_ms=10_000)])
    (run,) = await link.until_runs(1)
    sweeper, overdue_runs = bench.engine.sweeper, bench.engine.overdue_runs
    await sweeper._look()
    sweeper._quiet_until = 0.0
    bench.engine.sweeper._clock._seen = _earlier(bench.engine.sweeper._clock._seen, 300.0)
    await bench.database.execute("update worker_session set expires_at = expires_at - interval '5 minutes'")
    await bench.database.execute(
        "update lease set assigned_at = assigned_at - interval '5 minutes',"
        " deadline = deadline - interval '5 minutes'"
    )
    await overdue_runs._end_all_overdue()
    await sweeper._look()
    bench.engine.heartbeats.beat(session, 1, [run.token], run.sequence)
    await until_acked(link)
    assert link.error is None
    assert run.token in session.leases
    assert await bench.database.fetchrow("select true from lease where token = $1", run.token)


async def test_a_clock_that_is_set_back_keeps_no_dead_workers_run(bench: Bench) -> None:
    """By an hour: a dead worker's session would expire an hour later. Who speaks is renewed as ever."""
    session, link = await bench.worker()
    dead, _ = await bench.worker(tasks=["other"])
    sweeper = bench.engine.sweeper
    await sweeper._look()
    sweeper._clock._seen = _earlier(sweeper._clock._seen, -3600.0)
    await bench.database.execute("update worker_session set expires_at = expires_at + interval '1 hour'")
    bench.engine.heartbeats.beat(session, 1, [], 0)
    await until_acked(link)
    await sweeper._look()
    async with asyncio.timeout(60):  # the engine's own sweeper may have been first, and is at it
        while [session.session_id, dead.session_id] != await about_to_expire(bench):
            await asyncio.sleep(0.01)
    await sweeper._store.set_back(timedelta(hours=1))  # as another broker does, which saw the same
    assert await about_to_expire(bench) == [session.session_id, dead.session_id]


async def about_to_expire(bench: Bench) -> list[int]:
    """Sessions that live, and not for longer than a lease."""
    rows = await bench.database.fetch(
        "select id from worker_session where expires_at - now() between '0 s' and '16 s' order by id"
    )
    return [row["id"] for row in rows]


def _earlier(seen: tuple[float, float] | None, seconds: float) -> tuple[float, float]:
    """What the clock would have shown, had it not jumped."""
    assert seen is not None
    return seen[0] - seconds, seen[1]
