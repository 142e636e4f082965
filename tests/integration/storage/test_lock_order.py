"""Batched statements lock in key order: no pair of them ever deadlocks, whatever their batches share."""

import asyncio
import random
from collections.abc import Awaitable, Callable
from itertools import combinations_with_replacement
from typing import Any

import pytest

from hyrex_broker.domain.errors import SessionEnded
from hyrex_broker.domain.model import Outcome, SessionId, TaskExtras, TaskId
from hyrex_broker.storage import endings
from hyrex_broker.storage.sessions import Beat
from tests.integration.storage.stage import INFO, SECRET, ZERO, Stage, end_of, new_task
from tests.integration.storage.waits import until_blocked
from tests.support.assigned import AssignedRun, runs_of

ROUNDS = 2
BATCH = 30
Move = Callable[[Stage, "Scene"], Awaitable[object]]


class Scene:
    """Tasks in every live table, in an order that differs for each who asks."""

    def __init__(self, stage: Stage) -> None:
        self.stage = stage
        self.fresh = [new_task(key=f"k{n}") for n in range(BATCH)]
        self.ids: list[TaskId] = []
        self.runs: list[AssignedRun] = []
        self.sessions: list[SessionId] = []

    async def set_up(self) -> None:
        stage = self.stage
        ready = await stage.submitted(BATCH, max_retries=1, retry_delay_ms=0)
        delayed = await stage.submit(*(new_task(extras=TaskExtras(delay_ms=1)) for _ in range(BATCH)))
        await stage.execute("update delayed set run_at = now() - interval '1 second'")
        self.ids = [*ready, *delayed]
        opened = [await stage.session() for _ in range(3)]
        self.sessions = [each.session_id for each in opened]
        result = await stage.assigns.assign(stage.plan(opened, await stage.lane(), BATCH // 2), stage.names)
        self.runs = runs_of(result.blocks)
        await stage.expire(self.sessions[0])

    def shuffled_ids(self) -> list[TaskId]:
        return random.sample(self.ids, len(self.ids))


async def submit(stage: Stage, scene: Scene) -> object:
    plain = [new_task(task.task_id) for task in random.sample(scene.fresh, BATCH)]
    return await stage.submit(*plain)


async def submit_waiting(stage: Stage, scene: Scene) -> object:
    keys = (f"k{n}" for n in random.sample(range(BATCH), BATCH))
    tasks = [new_task(task.task_id, key=key) for task, key in zip(scene.fresh, keys, strict=True)]
    return await stage.submit(*tasks)


async def assign(stage: Stage, scene: Scene) -> object:
    return await stage.assign(await stage.session(), BATCH)


async def report(stage: Stage, scene: Scene) -> object:
    runs = random.sample(scene.runs, len(scene.runs))
    return await stage.ended([end_of(run, random.choice(list(Outcome))) for run in runs])


async def cancel(stage: Stage, scene: Scene) -> object:
    return await stage.cancels.cancel(scene.shuffled_ids(), "test")


async def retry(stage: Stage, scene: Scene) -> object:
    return await stage.cancels.retry(scene.shuffled_ids())


async def promote(stage: Stage, scene: Scene) -> object:
    return await stage.promotes.promote(ZERO, BATCH)


async def renew(stage: Stage, scene: Scene) -> object:
    sessions = random.sample(scene.sessions, len(scene.sessions))
    return await stage.sessions.renew(stage.broker, [Beat(session, 0, 1) for session in sessions])


async def sweep(stage: Stage, scene: Scene) -> object:
    await stage.execute(
        "update worker_session set expires_at = now() - interval '1 second' where ended_at is null"
    )
    return [await stage.sessions.sweep(session) for session in random.sample(scene.sessions, 3)]


async def take_over(stage: Stage, scene: Scene) -> object:
    try:
        return await stage.sessions.take_over(stage.broker, random.choice(scene.sessions), SECRET, INFO, 0)
    except SessionEnded:
        return None


# Those that lock rows of the same tables; the others cannot meet.
GROUPS: list[list[Move]] = [
    [submit, submit_waiting],
    [assign, report, cancel, retry, promote, sweep],
    [renew, sweep, take_over, assign],
]
PAIRS = list(dict.fromkeys(pair for group in GROUPS for pair in combinations_with_replacement(group, 2)))


@pytest.mark.parametrize("pair", PAIRS, ids=lambda pair: "-".join(move.__name__ for move in pair))
async def test_no_pair_of_statements_deadlocks(stage: Stage, rival: Stage, pair: tuple[Move, Move]) -> None:
    await rival.lane()
    for _ in range(ROUNDS):
        scene = Scene(stage)
        await scene.set_up()
        await asyncio.gather(pair[0](stage, scene), pair[1](rival, scene), pair[0](rival, scene))
    await stage.execute("select pg_stat_force_next_flush()")
    assert (
        await stage.execute("select deadlocks from pg_stat_database where datname = current_database()") == 0
    )


async def test_the_runs_of_a_session_end_in_id_order_however_they_are_stored(
    stage: Stage, connection: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In chunks: a late report locks several of them in id order, and would meet the sweep half-way."""
    monkeypatch.setattr(endings, "_CHUNK", 1)
    ids = await stage.submitted(2)
    opened = await stage.session()
    await stage.assign(opened, 2)
    await connection.execute(
        "with moved as (delete from lease where task_id = $1 returning *)"
        " insert into lease select * from moved",
        ids[0],
    )
    await stage.expire(opened.session_id)
    async with connection.transaction():
        await connection.execute("select from lease where task_id = $1 for update", ids[0])
        sweeping = asyncio.ensure_future(stage.sessions.sweep(opened.session_id))
        await until_blocked(connection)
        await connection.execute("select from lease where task_id = $1 for update", ids[1])
    ended = await sweeping
    assert ended is not None
    assert ended.task_ids == ids
