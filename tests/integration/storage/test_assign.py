"""Assigns: only for sessions that are ours, in order of priority, never past a limit, never twice."""

import asyncio
from dataclasses import replace
from datetime import timedelta
from typing import Any

from hyrex_broker.domain.model import Outcome, Token
from hyrex_broker.domain.rates import DeclaredLimit
from hyrex_broker.domain.states import TaskState
from hyrex_broker.storage.assign import LaneQuota, Plan
from tests.integration.storage.stage import INFO, LEASE, SECRET, ZERO, Stage, make_id
from tests.integration.storage.waits import until_blocked
from tests.support.assigned import runs_of


async def test_priority_comes_first_and_arrival_decides_among_equals(stage: Stage) -> None:
    """Order is by the broker's clock: an id with a later time that arrived earlier goes first."""
    ids = [(await stage.submitted(rank=rank))[0] for rank in (5, 1, 5, 9)]
    runs = await stage.assign(await stage.session(), 10)
    by_slot = sorted(runs, key=lambda run: run.token)
    assert [run.task_id for run in by_slot] == [ids[1], ids[0], ids[2], ids[3]]


async def test_two_brokers_never_take_the_same_task(stage: Stage, rival: Stage) -> None:
    ids = await stage.submitted(200)
    mine, theirs = await stage.session(), await rival.session()
    await rival.lane()
    taken = await asyncio.gather(
        *(stage.assign(mine, 20) for _ in range(6)), *(rival.assign(theirs, 20) for _ in range(6))
    )
    assert sorted(run.task_id for runs in taken for run in runs) == sorted(ids)


async def test_tokens_and_slots_are_dealt_as_planned(stage: Stage) -> None:
    await stage.submitted(4)
    one, two = await stage.session(), await stage.session()
    plan = stage.plan([one, two], await stage.lane(), 4)
    result = await stage.assigns.assign(plan, stage.names)
    assert [run.session_id for run in sorted(runs_of(result.blocks), key=lambda run: run.token)] == [
        one.session_id, two.session_id, one.session_id, two.session_id,
    ]  # fmt: skip
    assert {run.token for run in runs_of(result.blocks)} == set(plan.tokens)


async def test_nothing_is_taken_for_a_session_of_another_generation(stage: Stage, rival: Stage) -> None:
    await stage.submitted()
    opened = await stage.session()
    await rival.sessions.take_over(rival.broker, opened.session_id, SECRET, INFO, 0)
    result = await stage.assigns.assign(stage.plan(opened, await stage.lane()), stage.names)
    assert result.refused
    assert await stage.execute("select count(*) from ready") == 1


async def test_one_lost_session_keeps_the_whole_assign_from_taking(stage: Stage, rival: Stage) -> None:
    await stage.submitted(2)
    mine, lost = await stage.session(), await stage.session()
    await rival.sessions.take_over(rival.broker, lost.session_id, SECRET, INFO, 0)
    result = await stage.assigns.assign(stage.plan([mine, lost], await stage.lane(), 2), stage.names)
    assert result.refused
    assert result.blocks == []


async def test_nothing_is_taken_for_an_ended_session(stage: Stage) -> None:
    (task_id,) = await stage.submitted()
    swept, ended = await stage.session(), await stage.session()
    await stage.expire(swept.session_id)
    await stage.sessions.sweep(swept.session_id)
    await stage.sessions.end(ended.session_id, SECRET, Outcome.LOST, "test")
    for opened in (swept, ended):
        result = await stage.assigns.assign(stage.plan(opened, await stage.lane()), stage.names)
        assert result.refused
        assert result.blocks == []
    assert await stage.state(task_id) is TaskState.QUEUED


async def test_an_assign_that_waited_for_a_takeover_takes_nothing(stage: Stage, connection: Any) -> None:
    """Rule 3, first half: the lock on the session row decides who is first."""
    await stage.submitted()
    opened, lane = await stage.session(), await stage.lane()
    async with connection.transaction():
        await connection.execute("select from worker_session where id = $1 for update", opened.session_id)
        await connection.execute(
            "update worker_session set generation = generation + 1 where id = $1", opened.session_id
        )
        assigning = asyncio.create_task(stage.assigns.assign(stage.plan(opened, lane), stage.names))
        await until_blocked(connection)
    assert (await assigning).refused
    assert await stage.execute("select count(*) from lease") == 0


async def test_a_takeover_that_waited_for_an_assign_sees_its_leases(
    stage: Stage, rival: Stage, connection: Any
) -> None:
    """Rule 3, second half: the leases are read in the statement after the lock."""
    (task_id,) = await stage.submitted()
    opened = await stage.session()
    async with connection.transaction():
        # The first half of an assign, by hand: the key lock, then the lease.
        await connection.execute("select from worker_session where id = $1 for key share", opened.session_id)
        taking_over = asyncio.create_task(
            rival.sessions.take_over(rival.broker, opened.session_id, SECRET, INFO, 0)
        )
        await until_blocked(connection)
        await connection.execute("delete from ready where task_id = $1", task_id)
        await connection.execute(
            "insert into lease select id, lane, rank, 7, $2, 1, now(), null, 0, 0, 0, 0, false"
            " from task where id = $1",
            task_id,
            opened.session_id,
        )
    assert [lease.lease.task_id for lease in (await taking_over).leases] == [task_id]


async def test_a_renewal_does_not_hold_up_an_assign(stage: Stage, connection: Any) -> None:
    await stage.submitted()
    opened = await stage.session()
    async with connection.transaction():
        await connection.execute(
            "update worker_session set expires_at = now() + interval '1 minute' where id = $1",
            opened.session_id,
        )
        assert len(await stage.assign(opened)) == 1


async def test_rows_that_another_statement_holds_are_passed_over(stage: Stage, connection: Any) -> None:
    first, second = (await stage.submitted())[0], (await stage.submitted())[0]
    async with connection.transaction():
        await connection.execute("select from ready where task_id = $1 for update", first)
        (run,) = await stage.assign(await stage.session(), 2)
    assert run.task_id == second
    assert await stage.state(first) is TaskState.QUEUED


async def test_two_brokers_under_one_limit_never_pass_it(stage: Stage, rival: Stage) -> None:
    """Rule 13: the count is a statement after the lock; inside it, both would count the past."""
    await stage.lanes.declare_limits([DeclaredLimit("queue", "default", 3)])
    await stage.submitted(50)
    lane, limits = await stage.lane(), [("queue", "default")]
    await rival.lane()
    mine, theirs = await stage.session(), await rival.session()
    taken = await asyncio.gather(
        *(stage.assign_limited(mine, lane, limits, 2) for _ in range(4)),
        *(rival.assign_limited(theirs, lane, limits, 2) for _ in range(4)),
    )
    assert sum(map(len, taken)) == 3


async def test_the_count_of_a_limit_sees_what_was_committed_while_it_waited(
    stage: Stage, connection: Any
) -> None:
    await stage.lanes.declare_limits([DeclaredLimit("task", "work", 1)])
    first, _ = await stage.submitted(2)
    lane, opened = await stage.lane(), await stage.session()
    async with connection.transaction():
        await connection.execute("select from concurrency_limit for update")
        assigning = asyncio.create_task(stage.assign_limited(opened, lane, [("task", "work")]))
        await until_blocked(connection)
        await connection.execute("delete from ready where task_id = $1", first)
        await connection.execute(
            "insert into lease select id, lane, rank, 7, $2, 1, now(), null, 0, 0, 0, 0, false"
            " from task where id = $1",
            first,
            opened.session_id,
        )
    assert await assigning == []


async def test_a_limit_counts_lanes_that_the_asking_broker_has_never_heard_of(
    stage: Stage, rival: Stage
) -> None:
    await stage.lanes.declare_limits([DeclaredLimit("queue", "default", 2)])
    await stage.submitted(2)
    mine = await stage.lane()
    await rival.submitted(2, name="unheard")
    theirs = await rival.lane(name="unheard")
    limits = [("queue", "default")]
    assert len(await rival.assign_limited(await rival.session(), theirs, limits, 2)) == 2
    assert await stage.assign_limited(await stage.session(), mine, limits, 2) == []


async def test_a_limit_that_leaves_sessions_out_is_no_refusal(stage: Stage) -> None:
    await stage.lanes.declare_limits([DeclaredLimit("task", "work", 1)])
    await stage.submitted(4)
    sessions = [await stage.session() for _ in range(4)]
    runs = await stage.assign_limited(sessions, await stage.lane(), [("task", "work")], 4)
    assert len(runs) == 1


async def test_the_end_of_a_lease_makes_room_whoever_ends_it(stage: Stage) -> None:
    await stage.lanes.declare_limits([DeclaredLimit("task", "work", 1)])
    await stage.submitted(2)
    lane, limits = await stage.lane(), [("task", "work")]
    opened = await stage.session()
    (run,) = await stage.assign_limited(opened, lane, limits)
    assert await stage.assign_limited(opened, lane, limits) == []
    await stage.end(run, Outcome.COMPLETED)
    assert len(await stage.assign_limited(opened, lane, limits)) == 1


async def test_a_limited_lane_is_never_read_without_its_limit(stage: Stage) -> None:
    """A broker that has not heard of the limit yet gets nothing."""
    await stage.submitted()
    await stage.lane()
    await stage.lanes.declare_limits([DeclaredLimit("task", "work", 1)])
    assert await stage.assign(await stage.session()) == []


async def test_a_lane_made_after_its_limit_is_born_limited(stage: Stage) -> None:
    await stage.lanes.declare_limits([DeclaredLimit("queue", "narrow", 1)])
    await stage.submitted(queue="narrow")
    assert await stage.assign(await stage.session(), lane=await stage.lane("narrow")) == []


async def test_rows_below_the_low_water_mark_are_found_from_zero(stage: Stage) -> None:
    """Rule 11: a mark hides what a late statement left below it, until the next sweep from zero."""
    (task_id,) = await stage.submitted()
    taken_at = await stage.execute("select now()")
    lane, opened = await stage.lane(), await stage.session()
    hidden = await stage.assigns.assign(
        stage.plan(opened, lane, mark=taken_at + timedelta(seconds=1)), stage.names
    )
    assert hidden.blocks == []
    (run,) = await stage.assign(opened)
    assert run.task_id == task_id


async def test_the_deadline_of_a_lease_is_its_timeout_some_grace_and_the_sessions_lease(stage: Stage) -> None:
    """A worker that is cut off for less than its lease reports before the broker overtakes it."""
    await stage.submitted(timeout_ms=60_000)
    await stage.assign(await stage.session())
    left = await stage.execute("select deadline - assigned_at from lease")
    assert left == timedelta(seconds=60 + 15) + LEASE


async def test_lanes_with_work_are_found_by_skipping(stage: Stage) -> None:
    await stage.submitted(3, rank=2)
    await stage.submitted(2, rank=7)
    await stage.submitted(name="other")
    work, other = await stage.lane(), await stage.lane(name="other")
    assert await stage.assigns.lanes_with_work() == [(work, 2), (work, 7), (other, 5)]


async def test_lanes_share_an_assign_by_their_quotas(stage: Stage) -> None:
    await stage.submitted(5)
    await stage.submitted(5, name="other")
    opened = await stage.session()
    lanes = [await stage.lane(), await stage.lane(name="other")]
    slot = opened.session_id
    quotas = [LaneQuota(lanes[0], [(5, ZERO)], [slot] * 2), LaneQuota(lanes[1], [(5, ZERO)], [slot] * 3)]
    plan = Plan(stage.broker, {slot: opened.generation}, {slot: 1}, [*map(Token, range(501, 506))], quotas)
    result = await stage.assigns.assign(plan, stage.names)
    assert sorted(run.name for run in runs_of(result.blocks)) == ["other"] * 3 + ["work"] * 2
    assert {run.token for run in runs_of(result.blocks)} == set(plan.tokens)


async def test_a_ready_row_without_a_task_ends_as_lost_and_the_others_run(stage: Stage) -> None:
    """Joined to nothing it vanished: taken from `ready`, and nowhere else since."""
    ids = await stage.submitted(3)
    await stage.execute("delete from task where id = $1", ids[1])
    runs = await stage.assign(await stage.session(), 10)
    assert [run.task_id for run in sorted(runs, key=lambda run: run.token)] == [ids[0], ids[2]]
    assert await stage.state(ids[1]) is TaskState.LOST
    (run,) = await stage.runs(ids[1])
    assert run["final"]
    assert run["reason"] == "its task is not stored"


async def test_a_ready_row_without_a_task_and_without_its_day_harms_nobody(stage: Stage) -> None:
    """There is no place to record its end, so the statement must not try."""
    (mine,) = await stage.submitted()
    lane = await stage.lane()
    await stage.execute(
        "insert into ready values ($1, $2, 5, now() - interval '1 second', 0, 0, 0, 0, false)",
        make_id(0),
        lane,
    )
    (run,) = await stage.assign(await stage.session(), 10)
    assert run.task_id == mine
    assert await stage.execute("select count(*) from ready") == 0


async def test_the_slots_of_many_lanes_are_dealt_as_planned(stage: Stage) -> None:
    """Lanes that give less than their quota leave their slots empty; no other lane takes them."""
    one, two = await stage.session(), await stage.session()
    lanes = [await stage.lane(f"q{number}") for number in range(3)]
    wanted = []
    for lane, count in zip(lanes, (1, 0, 2), strict=True):
        wanted.append(await stage.submitted(count, queue=stage.names[lane][0]) if count else [])
    plan = stage.plan([one, two], lanes[0], 6)
    quotas = [LaneQuota(lane, [(5, ZERO)], [one.session_id, two.session_id]) for lane in reversed(lanes)]
    result = await stage.assigns.assign(replace(plan, quotas=quotas), stage.names)
    dealt = {run.task_id: (run.token, run.session_id) for run in runs_of(result.blocks)}
    assert dealt == {
        wanted[2][0]: (plan.tokens[0], one.session_id),
        wanted[2][1]: (plan.tokens[1], two.session_id),
        wanted[0][0]: (plan.tokens[4], one.session_id),
    }
