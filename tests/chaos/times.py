"""What a storm must not do to times: slots of schedules stored twice or left out, tasks that expire early."""

from datetime import datetime, timedelta
from itertools import pairwise
from typing import Any, Final

from tests.support.postgres import connect

_MINUTE: Final = timedelta(minutes=1)
_LATEST_WITHIN: Final = timedelta(seconds=100)
"""A slot that is due while brokers are killed is stored by the next one that looks."""
_SLOTS: Final = (
    "select schedule, array_agg(slot order by slot) as slots, now() as now"
    " from schedule_slot group by schedule"
)
_TWICE: Final = (
    "select labels->>'hyrex.schedule' as schedule, headers->>'hyrex-scheduled-for' as slot, count(*) as tasks"
    " from task where labels ? 'hyrex.schedule' group by 1, 2 having count(*) > 1"
)
_UNFINISHED: Final = (
    "select t.id, t.headers->>'hyrex-scheduled-for' as slot from task t where labels ? 'hyrex.schedule'"
    " and not exists (select from task_run r where r.task_id = t.id and r.final and r.outcome = 2)"
    " and not exists (select from live where live.task_id = t.id)"
)
"""Slots go on after all was quiet: what lives is one that is due now."""
_EXPIRED: Final = (
    "select t.id, t.expires_at, r.finished_at, r.cause from task t join task_run r on r.task_id = t.id"
    # Nodes are cancelled with their workflows too.
    " where t.expires_at is not null and r.outcome = 5 and t.downstreams is null"
    " and (r.cause is distinct from 3 or r.finished_at < t.expires_at)"
)


async def wrong_times(database_url: str) -> list[str]:
    """A line for each thing that is wrong; schedules are those that are due each minute."""
    connection = await connect(database_url)
    try:
        return [
            *[line for row in await connection.fetch(_SLOTS) for line in _left_out(row)],
            *[
                f"slot stored twice: {row['slot']} of {row['schedule']}: {row['tasks']} tasks"
                for row in await connection.fetch(_TWICE)
            ],
            *[
                f"task {row['id']} of slot {row['slot']} did not complete"
                for row in await connection.fetch(_UNFINISHED)
            ],
            *[
                f"task {row['id']}, until {row['expires_at']}, ended at {row['finished_at']}"
                f" with cause {row['cause']}"
                for row in await connection.fetch(_EXPIRED)
            ],
        ]
    finally:
        await connection.close()


def _left_out(row: Any) -> list[str]:
    slots: list[datetime] = row["slots"]
    name = row["schedule"]
    found = [
        f"slot left out: between {slot} and {later} of {name}"
        for slot, later in pairwise(slots)
        if later - slot != _MINUTE
    ]
    if row["now"] - slots[-1] > _LATEST_WITHIN:
        found.append(f"slot left out: none of {name} since {slots[-1]}")
    return found
