"""Schedules of a bench, which its tests fire."""

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

from hyrex.runtime.cron import Cron
from hyrex_broker.domain.schedules import CatchUp, ScheduleDefinition, ScheduleOptions, ScheduleSource
from hyrex_broker.engine.schedules import ScheduledSubmits
from hyrex_broker.storage.schedules import ScheduleStore
from tests.integration.engine.bench import Bench
from tests.integration.engine.stored_rows import rows

MANY = (
    "insert into schedule (namespace, name, task, queue, cron, tz, payload, options, catchup, jitter_s,"
    " source, next_at, due_at)"
)


LEAP_DAY = "0 0 29 2 *"
"""No slot of it passes while a test runs: what is due is what the test has put back."""
HOURLY = "0 * * * *"


def definition(name: str = "nightly", cron: str = LEAP_DAY, **changes: Any) -> ScheduleDefinition:
    values: dict[str, Any] = {
        "task": "work",
        "queue": "default",
        "tz": "UTC",
        "payload": b"{}",
        "options": ScheduleOptions(5, 0),
        "catchup": CatchUp.LATEST,
        "jitter_s": 0,
        "source": ScheduleSource.OPERATOR,
    }
    return ScheduleDefinition(name=name, cron=cron, **(values | changes))


def next_leap_day() -> datetime:
    return Cron(LEAP_DAY, "UTC").next_after(datetime.now(UTC))


async def paused(bench: Bench) -> ScheduledSubmits:
    """The bench's schedules, without their loop: the test fires."""
    for loop in bench.loops:
        if "ScheduledSubmits.run" in repr(loop):
            loop.cancel()
            bench.loops.remove(loop)
            await asyncio.wait([loop])
            return bench.engine.schedules
    raise AssertionError("no loop of schedules")


async def put_back(bench: Bench, hours: float = 0, name: str = "nightly") -> datetime:
    """Let the next slot of a schedule be so long ago; returns it."""
    ((slot,),) = await rows(
        bench,
        "update schedule set due_at = now() - $2::interval,"
        " next_at = date_trunc('second', now()) - $2::interval where name = $1 returning next_at",
        name,
        timedelta(hours=hours),
    )
    return slot  # type: ignore[no-any-return]


async def fire(bench: Bench) -> datetime:
    """Fire what is due; returns the last full hour at that time."""
    due = await ScheduleStore(bench.database).due(10)
    assert due is not None
    await bench.engine.schedules._fire(due.schedules, due.now)
    return due.now.replace(minute=0, second=0, microsecond=0)


async def slots(bench: Bench, name: str = "nightly") -> list[Any]:
    return [
        row[0]
        for row in await rows(bench, "select slot from schedule_slot where schedule = $1 order by 1", name)
    ]


async def pause(bench: Bench, name: str = "nightly") -> None:
    """Pause a schedule."""
    seen = await ScheduleStore(bench.database).find(name)
    assert seen is not None
    assert await bench.engine.schedules.pause(seen.schedule)
