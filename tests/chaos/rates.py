"""What a storm must not do to rates: in any time T at most burst + rate * T assigns.

The database notes each assign of a rated lane in the assign's own transaction. Transactions under one rate
hold its lock one after the other until they end. So one looked at its tokens after it had begun and after the
one before it had noted its assigns, and before it noted its own: between these times nobody knows when, and a
window is counted from the earlier one. Nothing else is excused: the storm sets no clock, and what is killed,
stopped or cut off does not move the database's. Where somebody else sets the machine's clock back, no window
goes across.
"""

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from tests.chaos.app import BURST, RATE_PER_S
from tests.support.postgres import connect

_ROUNDING: Final = 0.001
"""Of a run: a database's clock has microseconds."""
_NOTES: Final = """
create schema if not exists storm;
create table storm.assign (
  id bigint generated always as identity, limited text, runs integer, began timestamptz, noted timestamptz
);
create function storm.note_assigns() returns trigger language plpgsql as $$
begin
  insert into storm.assign (limited, runs, began, noted)
  select case when l.name = 'rated' then 'task rated' else 'queue trickle' end,
         count(*), now(), clock_timestamp()
  from added join hyrex.lane l on l.id = added.lane
  where l.name = 'rated' or l.queue = 'trickle'
  group by 1;
  return null;
end
$$;
create trigger noted_by_storm after insert on hyrex.lease referencing new table as added
  for each statement execute function storm.note_assigns();
"""


@dataclass(frozen=True, slots=True)
class Assign:
    """Runs that one transaction assigned under a rate, and its times by the database's clock."""

    runs: int
    began: datetime
    noted: datetime


async def note_assigns(database_url: str) -> None:
    """Have the database note assigns under rates from now on."""
    connection = await connect(database_url)
    try:
        await connection.execute(_NOTES)
    finally:
        await connection.close()


async def wrong_rates(database_url: str) -> list[str]:
    """A line for each assign with which there were too many in some time; one if none was noted."""
    connection = await connect(database_url)
    try:
        rows: list[Any] = await connection.fetch("select * from storm.assign order by id")
        ran = await connection.fetchval(
            "select count(*) from task_run r join task t on t.id = r.task_id join lane l on l.id = t.lane"
            " where r.outcome = 2 and (l.name = 'rated' or l.queue = 'trickle')"
        )
    finally:
        await connection.close()
    if ran and not rows:
        return [f"no assign was noted, and {ran} rated tasks ran"]
    found = []
    for limited in sorted({row["limited"] for row in rows}):
        assigns = [
            Assign(row["runs"], row["began"], row["noted"]) for row in rows if row["limited"] == limited
        ]
        found += [f"over the rate: {line} of {limited}" for line in too_many(assigns, RATE_PER_S, BURST)]
    return found


def too_many(assigns: Iterable[Assign], per_s: float, burst: int) -> Iterator[str]:
    """A line for each assign that ends a window with too many runs. `assigns`: as they were noted."""
    assigned = 0
    earliest = -math.inf
    before: Assign | None = None
    for each in assigns:
        if before is not None and each.noted < before.noted:
            before, assigned, earliest = None, 0, -math.inf
        looked = each.began if before is None else max(each.began, before.noted)
        # The window that begins here, against those that began before: by what each has in hand.
        earliest = max(earliest, per_s * looked.timestamp() - assigned)
        assigned += each.runs
        over = earliest + assigned - per_s * each.noted.timestamp() - burst
        if over > _ROUNDING:
            yield f"{over:.3f} runs too many at {each.noted}"
        before = each
