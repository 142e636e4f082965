"""A queue keeps its tasks for a shorter time than the brokers say: they go when their day is compacted."""

from typing import Any

import pytest

from hyrex_broker.domain.model import TaskExtras
from hyrex_broker.storage import compaction
from hyrex_broker.storage.debounce import DebounceStore
from hyrex_broker.storage.queues import QueueChange, QueueStore
from hyrex_broker.storage.retention import RetentionStore
from hyrex_broker.storage.verify import verify
from tests.integration.storage.old_days import BAD, KEEP, OldDay
from tests.integration.storage.stage import Stage, make_id, new_task

pytestmark = pytest.mark.own_database


@pytest.fixture(autouse=True)
def small_portions(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compaction, "PORTION", 3)


async def keep(stage: Stage, queue: str, days: int | None = None, dead_letters: int | None = None) -> None:
    await QueueStore(stage.database).update(
        queue, QueueChange(retention_days=days, dead_letter_days=dead_letters)
    )


async def test_what_ended_well_goes_after_its_queues_term(stage: Stage, connection: Any) -> None:
    """A day for which the brokers keep everything still; tasks of other queues stay as they were."""
    day = await OldDay.of(stage, connection, "completed", "failed", ago=5)
    for name in ("completed short", "cancelled short", "failed short", "sleeps short"):
        await day.add(name, queue="short")
    everything = set(day.ids)
    await day.retained()
    assert await day.kept() == everything
    await keep(stage, "short", days=5)
    await day.retained()
    assert await day.kept() == everything, "its fifth day is not over"
    await keep(stage, "short", days=4)
    await day.retained()
    stays = everything - {"completed short", "cancelled short"}
    assert await day.kept() == stays
    assert await day.named("select task_id::text from idempotency") == stays
    assert await day.named("select task_id::text from task_run") == stays - {"sleeps short"}
    assert await day.is_whole()
    assert (await verify(stage.database.url, since=day.start)).findings == {}


@pytest.mark.parametrize(("ago", "stays"), [(20, {"failed"}), (5, {"failed", "completed short"})])
async def test_bad_ends_go_after_their_own_term(
    stage: Stage, connection: Any, ago: int, stays: set[str]
) -> None:
    """Of a day of which the brokers keep bad ends alone, and of one of which they keep all."""
    day = await OldDay.of(stage, connection, "failed", ago=ago)
    await day.add("failed short", queue="short")
    await day.add("completed short", queue="short")
    await keep(stage, "short", dead_letters=4)
    await day.retained()
    assert await day.kept() == stays


async def test_what_lives_its_tree_and_what_was_reopened_outlive_the_term(
    stage: Stage, connection: Any
) -> None:
    day = await OldDay.of(stage, connection, ago=5)
    root = await day.add("sleeps", queue="short")
    await day.add("completed child", queue="short", parent_id=root, root_id=root)
    await day.add("completed", queue="short")
    reopened = await day.add("failed", queue="short")
    await stage.cancels.retry([reopened])
    await keep(stage, "short", days=1, dead_letters=1)
    await day.retained()
    assert await day.kept() == {"sleeps", "completed child", "failed"}


async def test_a_queues_longer_term_keeps_nothing_longer(stage: Stage, connection: Any) -> None:
    """As after brokers were told to keep less."""
    day = await OldDay.of(stage, connection, "completed", "failed", "sleeps")
    await keep(stage, "default", days=25, dead_letters=60)
    await day.retained()
    assert await day.kept() == {"failed", "sleeps"}
    await day.retained(bad_ends=KEEP)
    assert await day.kept() == {"sleeps"}


async def test_few_tasks_past_their_term_have_their_day_copied_now_and_then(
    stage: Stage, connection: Any
) -> None:
    """The first copy comes at once; the next one for so few comes a day later, not at each look."""
    day = await OldDay.of(stage, connection, *(f"completed {n}" for n in range(20)), ago=5)
    await day.add("completed short", queue="short")
    await keep(stage, "short", days=1)
    await day.retained()
    assert "completed short" not in await day.kept()
    await day.add("completed later", queue="short")
    store = RetentionStore(stage.database.url)
    looks = "update compaction set looked_at = looked_at - interval '25 hours'"
    await connection.execute(looks)
    await store.maintain(KEEP, BAD)
    assert "completed later" in await day.kept()
    await connection.execute(f"{looks}, copied_at = copied_at - interval '25 hours'")
    await store.maintain(KEEP, BAD)
    assert "completed later" not in await day.kept()
    assert await day.is_whole()


async def test_a_young_day_without_tasks_keeps_its_tables(stage: Stage, connection: Any) -> None:
    """Ids of it may still come: a day is dropped by the brokers' term alone."""
    day = await OldDay.of(stage, connection, "completed", ago=3)
    await keep(stage, "default", days=1)
    await day.retained()
    assert await day.kept() == set()
    assert await day.is_whole()
    assert await stage.submit(new_task(make_id(day.moment + 1000)))


async def test_todays_and_yesterdays_tasks_stay(stage: Stage, connection: Any) -> None:
    day = await OldDay.of(stage, connection, "completed", ago=1)
    await keep(stage, "default", days=1)
    await day.retained()
    assert await day.kept() == {"completed"}


async def test_a_debounce_key_goes_with_its_task_and_not_before(stage: Stage, connection: Any) -> None:
    day = await OldDay.of(stage, connection, "sleeps")
    for key, moment in (("ended", day.moment + 10), ("waits", day.moment + 20)):
        extras = TaskExtras(delay_ms=3_600_000, debounce_key=key)
        task = new_task(make_id(moment), extras=extras)
        await DebounceStore(stage.database).submit(await stage.batch([task]))
        if key == "ended":
            await stage.cancels.cancel([task.task_id], "")
    await day.retained()
    assert await connection.fetchval("select array_agg(key) from debounce") == ["waits"]
