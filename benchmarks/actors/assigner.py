"""Fills a database with ready tasks by SQL alone, then times assigns; argument: URL.

Orders: {"fill": N}; {"assign": N}: assign (timed), report, submit as many again.
"""

import asyncio
import sys
import time
from typing import Any

from benchmarks.actors import sql_session
from benchmarks.actors.orders import obey_async
from benchmarks.actors.sql_session import PAYLOAD, RANK, Lane
from hyrex.backend.ids import new_task_id

SLICE = 500_000
# Version 7 ids of this moment, counted up from $1.
FILL_TASK = """
insert into task (id, lane, rank, max_retries, digest, payload)
select encode(substring(uuid_send($4::uuid) from 1 for 8) || int8send(n | (1::bigint << 63)), 'hex')::uuid,
       $3, $5, 0, 1, $6
from generate_series($1::bigint, $2::bigint) as n
"""
FILL_READY = """
insert into ready (task_id, lane, rank, arrival, run_number, attempt_number, redeliveries, releases, alone)
select id, lane, rank,
       submitted_at - interval '1 hour' + ($3::bigint + row_number() over (order by id)) * interval '1 us',
       0, 0, 0, 0, false
from task where id > $1 and id <= $2 order by id
"""


class Assigner:
    """One connection and one lane."""

    def __init__(self, connection: Any, lane: Lane) -> None:
        self._connection = connection
        self._lane = lane

    async def obey(self, fill: int = 0, assign: int = 0) -> dict[str, Any]:
        """Obey one order."""
        if fill:
            await self._fill(fill)
            return {}
        began = time.perf_counter()
        rows = await sql_session.assign(self._connection, self._lane, assign)
        ms = (time.perf_counter() - began) * 1000
        if len(rows) != assign:
            raise RuntimeError(f"{len(rows)} of {assign} tasks assigned")
        await sql_session.report(self._connection, rows)
        await sql_session.submit(self._connection, self._lane, [new_task_id() for _ in range(assign)])
        return {"ms": ms}

    async def _fill(self, count: int) -> None:
        base, after = new_task_id(), await self._highest()
        for first in range(0, count, SLICE):
            last = min(first + SLICE, count) - 1
            await self._connection.execute(FILL_TASK, first, last, self._lane.lane, base, RANK, PAYLOAD)
            highest = await self._highest()
            await self._connection.execute(FILL_READY, after, highest, first)
            after = highest
        for table in ("task", "ready"):
            await self._connection.execute(f"vacuum analyze {table}")

    async def _highest(self) -> Any:
        found = await self._connection.fetchval("select id from task order by id desc limit 1")
        return found or "00000000-0000-0000-0000-000000000000"


async def main() -> None:
    """Obey until the orders end."""
    connection = await sql_session.connect(sys.argv[1])
    await obey_async(Assigner(connection, await Lane.make(connection)).obey)


if __name__ == "__main__":
    asyncio.run(main())
