"""Calls of hyrex.enqueue in transactions of their own connections, and the relay of a bench."""

import asyncio
import json
from typing import Any

from hyrex_broker.engine.outbox import OutboxRelay
from tests.integration.engine.bench import Bench
from tests.integration.engine.stored_rows import rows


async def enqueue(connection: Any, task: str = "work", queue: str | None = None, **options: Any) -> str:
    """Enqueue a task; returns its id."""
    made = await connection.fetchval(
        "select hyrex.enqueue($1, '{\"n\": 1}', $2, $3)", task, queue, json.dumps(options)
    )
    return str(made)


async def enqueue_many(connection: Any, count: int, queue: str | None = None) -> None:
    """Enqueue so many tasks in one statement."""
    await connection.execute(
        "select count(hyrex.enqueue('work', jsonb_build_object('n', n), $2)) from generate_series(1, $1) n",
        count,
        queue,
    )


async def stilled(bench: Bench) -> OutboxRelay:
    """The bench's relay, without its loop: the test relays."""
    for loop in bench.loops:
        if "OutboxRelay.run" in repr(loop):
            loop.cancel()
            bench.loops.remove(loop)
            await asyncio.wait([loop])
            return bench.engine.relay
    raise AssertionError("no loop of the relay")


async def relay_all(relay: OutboxRelay) -> None:
    """OutboxRelay until a look finds nothing."""
    while await relay.relay_next():
        pass


async def ids(bench: Bench, table: str = "task", column: str = "id") -> list[str]:
    return [row[0] for row in await rows(bench, f"select {column}::text from {table} order by 1")]
