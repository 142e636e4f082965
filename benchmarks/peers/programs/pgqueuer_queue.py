"""PgQueuer: asyncpg, a connection of its own per process, larger batches, its autovacuum settings, uvloop."""
# mypy: ignore-errors
# ruff: noqa: ASYNC110

import asyncio
import json
import os
import sys
import time

import asyncpg
import uvloop
from pgqueuer import PgQueuer
from pgqueuer.db import AsyncpgDriver
from pgqueuer.queries import Queries

from benchmarks.actors.orders import obey_async
from benchmarks.peers.programs.order import order

BATCH = 100
ENQUEUE = 1_000
URL = os.environ["BENCH_DATABASE_URL"]


async def produce() -> None:
    """Install, then obey."""
    connection = await asyncpg.connect(URL)
    queries = Queries(AsyncpgDriver(connection))
    await queries.install()
    await queries.optimize_autovacuum()

    async def send(count: int) -> dict[str, float]:
        began = time.monotonic()
        for first in range(0, count, ENQUEUE):
            numbers = range(first, min(first + ENQUEUE, count))
            payloads = [json.dumps({"order": order(n)}).encode() for n in numbers]
            await queries.enqueue(["handle"] * len(payloads), payloads, [0] * len(payloads))
        while await connection.fetchval("select exists (select from pgqueuer)"):
            await asyncio.sleep(0.005)
        return {"began": began, "ended": time.monotonic()}

    await obey_async(send)


async def work() -> None:
    """Run tasks until killed."""
    pgq = PgQueuer(AsyncpgDriver(await asyncpg.connect(URL)))

    @pgq.entrypoint("handle")
    async def handle(job) -> None:
        json.loads(job.payload)

    await pgq.run(batch_size=BATCH)


if __name__ == "__main__":
    uvloop.run({"produce": produce, "work": work}[sys.argv[1]]())
