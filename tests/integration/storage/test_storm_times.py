"""What the verdict of a storm says of times; the storm itself is in tests/chaos."""

from datetime import datetime, timedelta
from typing import Any

from hyrex_broker.domain.model import TaskExtras
from tests.chaos.times import wrong_times
from tests.integration.storage.stage import Stage, new_task

MINUTE = timedelta(minutes=1)


async def slot(stage: Stage, moment: datetime, *, tasks: int = 1) -> None:
    """A slot with its tasks, which have completed."""
    for task_id in await stage.submitted(tasks):
        await stage.execute(
            'update task set labels = \'{"hyrex.schedule": "minutely"}\','
            " headers = jsonb_build_object('hyrex-scheduled-for', $2::text) where id = $1",
            task_id,
            str(moment),
        )
        await stage.execute("delete from ready where task_id = $1", task_id)
        await stage.execute("insert into task_run values ($1, 0, 0, 2, true)", task_id)
    await stage.execute(
        "insert into schedule_slot values (0, 'minutely', $1, gen_random_uuid(), 'due')", moment
    )


async def kinds(url: str) -> list[str]:
    """What is told, without its particulars."""
    return [line.partition(":")[0] for line in await wrong_times(url)]


async def test_slots_that_were_left_out_or_stored_twice_are_told(stage: Stage, storage_url: str) -> None:
    """They lie an hour ahead, so that none is late however long this takes."""
    first = await stage.execute("select date_trunc('minute', now() + interval '1 hour')")
    for minute in (0, 1, 2):
        await slot(stage, first + minute * MINUTE)
    assert await kinds(storage_url) == []
    await slot(stage, first + 4 * MINUTE)
    assert await kinds(storage_url) == ["slot left out"]
    await slot(stage, first + 3 * MINUTE, tasks=2)
    assert await kinds(storage_url) == ["slot stored twice"]
    await stage.execute("update schedule_slot set slot = slot - interval '2 hours'")
    assert await kinds(storage_url) == ["slot left out", "slot stored twice"]


async def test_a_slot_whose_task_has_ended_otherwise_is_told_but_none_that_is_under_way(
    stage: Stage, storage_url: str
) -> None:
    """The storm goes quiet between two slots, and the next may be due while it is judged."""
    await slot(stage, await stage.execute("select date_trunc('minute', now() + interval '1 hour')"))
    (due,) = await stage.submitted()
    await stage.execute('update task set labels = \'{"hyrex.schedule": "minutely"}\' where id = $1', due)
    assert await kinds(storage_url) == []
    await stage.execute("delete from ready")
    assert len(await kinds(storage_url)) == 1


async def test_tasks_that_expired_before_their_time_are_told(stage: Stage, storage_url: str) -> None:
    tasks: list[Any] = [new_task(extras=TaskExtras(expires_in_ms=3_600_000)) for _ in range(2)]
    await stage.submit(*tasks)
    for task, cause in zip(tasks, (3, None), strict=True):
        await stage.execute(
            "insert into task_run (task_id, run_number, attempt_number, outcome, final, cause)"
            " values ($1, 0, 0, 5, true, $2)",
            task.task_id,
            cause,
        )
    assert len(await wrong_times(storage_url)) == 2
    await stage.execute("update task set expires_at = now() - interval '1 hour'")
    assert len(await wrong_times(storage_url)) == 1
