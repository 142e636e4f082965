"""What nobody has used for long goes, and no task is ever stored in a lane that is gone."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from datetime import timedelta
from importlib.resources import files
from typing import Any, Final

import pytest

from hyrex_broker.domain.errors import LanesClosed
from hyrex_broker.domain.model import LaneId, TaskExtras
from hyrex_broker.domain.retention import RetentionTerms
from hyrex_broker.storage.keyed import KeyedStore
from hyrex_broker.storage.lanes import Definition
from hyrex_broker.storage.queues import LimitChange, QueueChange, QueueStore
from hyrex_broker.storage.statements import load
from hyrex_broker.storage.unused import remove_unused
from hyrex_broker.storage.verify import verify
from tests.integration.storage.old_days import BAD, KEEP, OldDay, upkeep
from tests.integration.storage.stage import INFO, Stage, new_task
from tests.integration.storage.tripwire import LOST, Tripwire
from tests.integration.storage.waits import until_blocked

pytestmark = pytest.mark.own_database
TERMS: Final = RetentionTerms(KEEP, BAD)
LONG_AGO: Final = "interval '40 days'"


async def unused(stage: Stage, queue: str, name: str = "work") -> LaneId:
    """A lane that was used long ago, as was its queue."""
    lane = await stage.lane(queue, name)
    await age(stage)
    return lane


async def age(stage: Stage) -> None:
    """Nothing was used since long."""
    await stage.execute(f"update lane set usable_until = now() - {LONG_AGO}")
    await stage.execute(f"update queue set used_at = now() - {LONG_AGO}")
    await stage.execute(f"update task_definition set declared_at = now() - {LONG_AGO}")
    await stage.execute(f"update concurrency_limit set changed_at = now() - {LONG_AGO}")


async def round_of(url: str) -> None:
    async with upkeep(url) as own:
        await remove_unused(own, TERMS)


async def lanes(stage: Stage) -> set[LaneId]:
    return {row["id"] for row in await stage.database.fetch("select id from lane")}


async def queues(stage: Stage) -> set[str]:
    return {row["name"] for row in await stage.database.fetch("select name from queue")}


async def test_a_lane_that_nobody_used_for_long_goes_with_its_marks_and_its_queue(stage: Stage) -> None:
    gone = await unused(stage, "gone")
    kept = await stage.lane("kept")
    await stage.execute("insert into low_water_mark values ($1, 5, now()), ($2, 5, now())", gone, kept)
    await round_of(stage.database.url)
    assert await lanes(stage) == {kept}
    assert await queues(stage) == {"kept"}
    assert await stage.execute("select array_agg(lane) from low_water_mark") == [kept]


async def test_many_go_in_portions_each_under_a_lock_of_its_own(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever interns lanes waits for no more than one of them."""
    monkeypatch.setattr("hyrex_broker.storage.unused._AT_ONCE", 2)
    for number in range(5):
        await stage.lane(f"queue-{number}")
    await stage.lanes.declare_tasks([Definition(f"task-{n}", "elsewhere", 0, None, 5) for n in range(5)])
    await QueueStore(stage.database).update("queue-3", QueueChange(paused=True))
    await age(stage)
    locks = 0
    async with upkeep(stage.database.url) as own:

        async def count(statement: str) -> None:
            nonlocal locks
            locks += "hyrex.lanes" in statement

        await remove_unused(Tripwire(own, count), TERMS)
    assert await lanes(stage) == set()
    assert await queues(stage) == {"queue-3"}
    assert await stage.execute("select count(*) from task_definition") == 0
    assert locks == 3 * 3, "three portions of lanes, of definitions and of queues"


@pytest.mark.parametrize("days", [0, 30, 34])
async def test_a_lane_whose_tasks_may_be_kept_still_stays(stage: Stage, days: int) -> None:
    """30 days are the longest term here; ids may be five days ahead."""
    lane = await stage.lane()
    await stage.execute("update lane set usable_until = now() - $1::interval", timedelta(days=days))
    await round_of(stage.database.url)
    assert await lanes(stage) == {lane}


@pytest.mark.parametrize("place", ["ready", "delayed", "lease", "blocked"])
async def test_a_lane_with_something_that_lives_stays(stage: Stage, place: str) -> None:
    extras = TaskExtras(delay_ms=3_600_000) if place == "delayed" else None
    if place == "blocked":
        extras = TaskExtras(is_outside=True)
    await stage.submit(new_task(extras=extras))
    if place == "lease":
        await stage.assign(await stage.session())
    assert await stage.execute(f"select count(*) from {place}") == 1
    lane = await unused(stage, "default")
    await round_of(stage.database.url)
    assert await lanes(stage) == {lane}
    assert await queues(stage) == {"default"}


async def test_a_lane_of_which_a_living_tree_keeps_a_task_stays(stage: Stage, connection: Any) -> None:
    """Its task ended long ago and may be looked at or retried still."""
    day = await OldDay.of(stage, connection, ago=50)
    root = await day.add("sleeps")
    await day.add("completed child", queue="child", parent_id=root, root_id=root)
    lane = await unused(stage, "child")
    for _ in range(2):
        await day.retained()
    assert await day.kept() == {"sleeps", "completed child"}
    assert lane in await lanes(stage)
    assert (await verify(stage.database.url, since=day.start)).findings == {}
    # Once its task is gone it is as old as if it had been used until then.
    await stage.cancels.cancel([root], "")
    await connection.execute("update task_run set finished_at = now() - interval '40 days'")
    await day.retained()
    assert await day.kept() == set()
    assert lane in await lanes(stage)
    await age(stage)
    await round_of(stage.database.url)
    assert lane not in await lanes(stage)


KINDS: Final = {
    "plain": new_task(),
    "waits": new_task(extras=TaskExtras(delay_ms=1000)),
    "keyed": new_task(concurrency_key="one"),
}


@pytest.mark.parametrize("how", ["closed", "gone"])
@pytest.mark.parametrize("kind", KINDS)
async def test_nothing_is_stored_in_a_lane_that_is_closed(stage: Stage, kind: str, how: str) -> None:
    """As by a broker that was stopped for long, and knows a lane that is closed, or removed."""
    batch = await stage.batch([KINDS[kind]])
    sql = "delete from lane" if how == "gone" else "update lane set usable_until = now() - interval '1 ms'"
    await stage.execute(sql)
    storing: Mapping[str, Callable[[], Awaitable[object]]] = {
        "plain": lambda: stage.submits.submit(batch),
        "waits": lambda: stage.submits.submit_waiting(batch),
        "keyed": lambda: KeyedStore(stage.database, 0).submit(batch, [1]),
    }
    with pytest.raises(LanesClosed):
        await storing[kind]()
    for table in ("task", "live", "idempotency", "seat", "expiry"):
        assert await stage.execute(f"select count(*) from {table}") == 0
    assert await stage.submit(KINDS[kind])  # it is interned again


def test_every_statement_that_stores_tasks_asks_for_its_lanes() -> None:
    """But the trial of a broker that may not write (brokers.sql), which is rolled back."""
    for file in files("hyrex_broker.storage").joinpath("sql").iterdir():
        for name, sql in load(file.name.removesuffix(".sql")).items():
            if "insert into task (" in sql and name != "trial":
                assert "lanes_usable(" in sql or "lanes_closed()" in sql, f"{name} in {file.name}"


async def test_whoever_interns_a_lane_while_it_is_removed_makes_another_one(
    stage: Stage, connection: Any
) -> None:
    lane = await unused(stage, "default")
    interning: list[asyncio.Future[LaneId]] = []
    async with upkeep(stage.database.url) as own:

        async def intern_then(statement: str) -> None:
            if "delete from lane l" in statement:
                interning.append(asyncio.ensure_future(stage.lane()))
                await until_blocked(connection)

        await remove_unused(Tripwire(own, intern_then), TERMS)
        (other,) = await asyncio.gather(*interning)
    assert other != lane
    assert await lanes(stage) == {other}
    assert await queues(stage) == {"default"}
    assert await stage.submit(new_task())


async def test_a_lane_that_is_interned_before_its_removal_stays(stage: Stage, connection: Any) -> None:
    """It was found unused; then somebody renews it and stores a task, and only then it would be removed."""
    lane = await unused(stage, "default")
    async with upkeep(stage.database.url) as own:
        stored = False

        async def store(statement: str) -> None:
            nonlocal stored
            if "hyrex.lanes" in statement and not stored:
                stored = True
                (task_id,) = await stage.submitted()
                await stage.cancels.cancel([task_id], "")

        await remove_unused(Tripwire(own, store), TERMS)
    assert await lanes(stage) == {lane}
    assert stored


async def test_a_backend_that_is_terminated_anywhere_leaves_nothing_half(
    stage: Stage, connection: Any
) -> None:
    number, over = 1, False
    while not over:
        await unused(stage, f"queue-{number}")
        await stage.lanes.declare_tasks([Definition(f"task-{number}", "elsewhere", 0, None, 5)])
        kept = await stage.submitted(queue="kept")
        count = 0
        async with upkeep(stage.database.url) as own:

            async def kill(_statement: str, own: Any = own, at: int = number) -> None:
                nonlocal count
                count += 1
                if count == at:
                    pid = own.get_server_pid()
                    await connection.execute("select pg_terminate_backend($1, 60000)", pid)

            try:
                await remove_unused(Tripwire(own, kill), TERMS)
                over = count < number
            except LOST:
                pass
        assert (await verify(stage.database.url)).findings == {}
        assert await stage.submit(new_task(kept[0], queue="kept")) == {}, "it is stored still"
        number += 1
    assert number > 8
    await age(stage)
    await round_of(stage.database.url)
    assert await queues(stage) == {"kept"}


async def test_what_an_operator_has_set_stays(stage: Stage) -> None:
    store = QueueStore(stage.database)
    changes = {
        "paused": QueueChange(paused=True),
        "limited": QueueChange(limit=LimitChange(3)),
        "narrow": QueueChange(max_waiting=3),
        "short": QueueChange(retention_days=1),
        "shorter": QueueChange(dead_letter_days=1),
    }
    for name, change in (changes | {"nothing": QueueChange(paused=False)}).items():
        await store.update(name, change)
    await age(stage)
    await round_of(stage.database.url)
    assert await queues(stage) == changes.keys()
    assert await stage.execute("select name from concurrency_limit") == "limited"


async def test_what_a_worker_declares_stays_until_its_session_is_forgotten(stage: Stage) -> None:
    await stage.lanes.declare_tasks([Definition("work", "declared", 0, None, 5)])
    await stage.lanes.declare_tasks([Definition("old", "old", 0, None, 5)])
    await stage.lanes.add_queues(["declared", "old"])
    await stage.session(INFO)  # it has `work`
    await age(stage)
    await round_of(stage.database.url)
    names = await stage.database.fetch("select name from task_definition")
    assert [row["name"] for row in names] == ["work"]
    assert await queues(stage) == {"declared"}
    await stage.execute("delete from worker_session")
    await round_of(stage.database.url)
    assert await stage.execute("select count(*) from task_definition") == 0
    assert await queues(stage) == set()


async def test_a_definition_that_is_declared_again_is_in_use(stage: Stage) -> None:
    definition = Definition("work", "default", 0, None, 5)
    await stage.lanes.declare_tasks([definition])
    await age(stage)
    updated = await stage.execute("select updated_at from task_definition")
    await stage.lanes.declare_tasks([definition])
    await round_of(stage.database.url)
    assert await stage.execute("select updated_at from task_definition") == updated
