"""Procrastinate: batch_defer, concurrent async workers, woken by notifications."""
# mypy: ignore-errors
# ruff: noqa: ASYNC110

import asyncio
import os
import sys
import time

from procrastinate import App, PsycopgConnector

from benchmarks.actors.orders import obey_async
from benchmarks.peers.programs.order import order

CONCURRENCY = 30
BATCH = 1_000
app = App(connector=PsycopgConnector(conninfo=os.environ["BENCH_DATABASE_URL"]))
OPEN = "select exists (select from procrastinate_jobs where status in ('todo', 'doing')) as open"


@app.task(name="handle")
async def handle(order: dict) -> int:
    """The task."""
    return order["order_id"]


async def produce() -> None:
    """Install, then obey."""
    async with app.open_async():
        await app.schema_manager.apply_schema_async()

        async def send(count: int) -> dict[str, float]:
            began = time.monotonic()
            for first in range(0, count, BATCH):
                numbers = range(first, min(first + BATCH, count))
                await handle.batch_defer_async(*({"order": order(n)} for n in numbers))
            while (await app.connector.execute_query_one_async(OPEN))["open"]:
                await asyncio.sleep(0.02)
            return {"began": began, "ended": time.monotonic()}

        await obey_async(send)


async def work() -> None:
    """Run tasks until killed."""
    async with app.open_async():
        await app.run_worker_async(concurrency=CONCURRENCY)


if __name__ == "__main__":
    asyncio.run({"produce": produce, "work": work}[sys.argv[1]]())
