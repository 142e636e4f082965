"""Cycles batches through Postgres on a few connections; arguments: URL CONNECTIONS.

Orders: {"prepare": N, "batch": M}, then {"go": true}.
"""

import asyncio
import sys
import time
from typing import Any

import uvloop

from benchmarks.actors import sql_session
from benchmarks.actors.orders import obey_async
from hyrex.backend.ids import new_task_id


class Cycler:
    """Connections that share a lane and the batches still to do."""

    def __init__(self, connections: list[Any], lane: sql_session.Lane) -> None:
        self._connections = connections
        self._lane = lane
        self._batches: list[list[str]] = []
        self._left = 0

    async def obey(self, prepare: int = 0, batch: int = 500, go: bool = False) -> dict[str, Any]:
        """Make the batches of a round, or do them."""
        if not go:
            ids = [new_task_id() for _ in range(prepare)]
            self._batches = [ids[first : first + batch] for first in range(0, prepare, batch)]
            self._left = prepare
            return {}
        began = time.monotonic()
        async with asyncio.TaskGroup() as group:
            for connection in self._connections:
                group.create_task(self._cycle(connection))
        return {"seconds": time.monotonic() - began}

    async def _cycle(self, connection: Any) -> None:
        while self._left:
            quota = min(self._left, 500)
            if self._batches:
                mine = self._batches.pop()
                await sql_session.submit(connection, self._lane, mine)
                quota = len(mine)
            rows = await sql_session.assign(connection, self._lane, quota)
            if rows:
                await sql_session.report(connection, rows)
                self._left -= len(rows)


async def main() -> None:
    """Obey until the orders end."""
    connections = [await sql_session.connect(sys.argv[1]) for _ in range(int(sys.argv[2]))]
    lane = await sql_session.Lane.make(connections[0])
    await obey_async(Cycler(connections, lane).obey)


if __name__ == "__main__":
    uvloop.run(main())
