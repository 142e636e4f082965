"""Tasks that are leased by the statement that stores them: never past what waits or a limit, only once, and
only to sessions that are ours."""

from collections.abc import Sequence

import pytest

from hyrex_broker.domain.model import LaneId
from hyrex_broker.domain.rates import DeclaredLimit
from hyrex_broker.storage.assign import Plan
from hyrex_broker.storage.sqlstates import StatementRefused
from hyrex_broker.storage.submit import is_repetition
from tests.integration.storage.stage import INFO, SECRET, Stage, new_task


async def handed_off(stage: Stage, plan: Plan, slots: Sequence[int | None] = (0,)) -> list[LaneId]:
    """Store tasks with these slots; the lanes of which nothing was leased."""
    batch = await stage.batch([new_task() for _ in slots])
    return list((await stage.submits.submit_handing_off(batch, plan, slots)).unleased)


async def waiting(stage: Stage) -> tuple[int, int]:
    """How many tasks are ready, and how many leased."""
    row = await stage.database.fetchrow("select (select count(*) from ready), (select count(*) from lease)")
    assert row is not None
    return row[0], row[1]


async def test_a_task_that_finds_a_free_worker_is_leased_by_its_submit(stage: Stage) -> None:
    opened, lane = [await stage.session() for _ in range(2)], await stage.lane()
    plan = stage.plan(opened, lane, 2)
    assert await handed_off(stage, plan, [1, None, 0]) == []
    assert await waiting(stage) == (1, 2)
    rows = await stage.database.fetch("select token, session_id from lease order by task_id")
    slots = plan.quotas[0].slots
    assert [tuple(row) for row in rows] == [(plan.tokens[1], slots[1]), (plan.tokens[0], slots[0])]


async def test_nothing_is_handed_off_past_a_task_that_waits(stage: Stage) -> None:
    await stage.submitted()
    lane = await stage.lane()
    assert await handed_off(stage, stage.plan(await stage.session(), lane)) == [lane]
    assert await waiting(stage) == (2, 0)


async def test_nothing_is_handed_off_from_a_lane_with_a_limit(stage: Stage) -> None:
    lane = await stage.lane()
    await stage.lanes.declare_limits([DeclaredLimit("task", "work", 5)])
    assert await handed_off(stage, stage.plan(await stage.session(), lane)) == [lane]
    assert await waiting(stage) == (1, 0)


async def test_nothing_is_handed_off_to_a_session_that_is_not_ours(stage: Stage, rival: Stage) -> None:
    opened, lane = await stage.session(), await stage.lane()
    await rival.sessions.take_over(rival.broker, opened.session_id, SECRET, INFO, 0)
    assert await handed_off(stage, stage.plan(opened, lane)) == [lane]
    assert await waiting(stage) == (1, 0)


async def test_a_repeated_task_is_not_handed_off_again(stage: Stage) -> None:
    """Rule 18: only rows that this statement inserted."""
    opened, lane = await stage.session(), await stage.lane()
    batch = await stage.batch([new_task()])
    await stage.submits.submit_handing_off(batch, stage.plan(opened, lane), [0])
    with pytest.raises(StatementRefused) as refused:
        await stage.submits.submit_handing_off(batch, stage.plan(opened, lane), [0])
    assert is_repetition(refused.value)
    assert await stage.execute("select count(*) from lease") == 1
