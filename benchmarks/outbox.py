"""Enqueues tasks in transactions of which a third roll back, while brokers are killed at random.

    python -m benchmarks.outbox --tasks 1000000

Prints what a call costs beside a bare insert, how fast tasks were enqueued and relayed, and whether exactly
the committed ones became tasks (`Verdict`). With --run a worker runs them too.
"""

import argparse
import asyncio
import random
import sys
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Final

import asyncpg

from benchmarks.processes import Process
from hyrex_broker.embedded import EmbeddedPostgres
from hyrex_broker.storage.migrate import migrate

LARGEST_TRANSACTION: Final = 400
EXPECTED: Final = "create table public.expected (id uuid primary key)"
_ENQUEUE: Final = """
insert into public.expected
select hyrex.enqueue('stamp', jsonb_build_object('sent_ns', n), 'bench')
from generate_series(1, $1::integer) n
"""
_BARE: Final = (
    "insert into hyrex.outbox (id, task, queue, payload, options)"
    " values (gen_random_uuid(), 'stamp', 'bench', $1, '{}')"
)
_VERDICT: Final = """
select (select count(*) from public.expected) as committed,
       (select count(*) from hyrex.task) as tasks,
       (select count(*) from public.expected e
        where not exists (select from hyrex.task t where t.id = e.id)) as lost,
       (select count(*) from hyrex.task t
        where not exists (select from public.expected e where e.id = t.id)) as made_up,
       (select count(*) from hyrex.outbox) as left_over,
       (select count(*) from hyrex.task_run where outcome = 2) as completed,
       (select count(*) from hyrex.ready) + (select count(*) from hyrex.lease)
         + (select count(*) from hyrex.delayed) as live
"""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What became of what was enqueued."""

    committed: int
    tasks: int
    lost: int
    made_up: int
    left_over: int
    completed: int
    live: int

    @property
    def is_exact(self) -> bool:
        """True if the committed ones are tasks, each of them once, and no others."""
        return not self.lost and not self.made_up and not self.left_over and self.tasks == self.committed


async def enqueue_randomly(url: str, count: int, seed: int) -> int:
    """Enqueue about so many tasks in transactions of random length, of which a third roll back; how many were
    committed. Some transactions stay open while others come and go."""
    chance = random.Random(seed)
    connection = await asyncpg.connect(url)
    committed, left = 0, count
    try:
        while left > 0:
            size = min(left, chance.randint(1, LARGEST_TRANSACTION))
            transaction = connection.transaction()
            await transaction.start()
            await connection.execute(_ENQUEUE, size)
            if chance.random() < 0.02:
                await asyncio.sleep(chance.random())
            if chance.random() < 1 / 3:
                await transaction.rollback()
            else:
                await transaction.commit()
                committed += size
            left -= size
    finally:
        await connection.close()
    return committed


async def verdict(url: str) -> Verdict:
    """Compare what was committed with what there is."""
    connection = await asyncpg.connect(url, command_timeout=600)
    try:
        (row,) = await connection.fetch(_VERDICT)
        return Verdict(**dict(row))
    finally:
        await connection.close()


async def until(url: str, holds: Callable[[Verdict], bool], within_s: float) -> Verdict:
    """Look until it holds, or time is up; the last look."""
    ends_at = time.monotonic() + within_s
    while True:
        found = await verdict(url)
        if holds(found) or time.monotonic() > ends_at:
            return found
        await asyncio.sleep(0.1)


async def _cost(url: str, calls: int = 5000) -> str:
    """Microseconds of a call and of a bare insert, in turns."""
    connection = await asyncpg.connect(url)
    timed: dict[str, list[float]] = {"enqueue": [], "insert": []}
    sql = {"enqueue": "select hyrex.enqueue_bytes('stamp', $1, 'bench')", "insert": _BARE}
    for _ in range(4):
        for name, text in sql.items():
            transaction = connection.transaction()
            await transaction.start()
            statement = await connection.prepare(text)
            began = time.perf_counter()
            for _ in range(calls):
                await statement.fetch(b'{"sent_ns": 1}')
            timed[name].append((time.perf_counter() - began) / calls * 1e6)
            await transaction.rollback()
    await connection.close()
    return ", ".join(f"{name} {min(found):.0f} us" for name, found in timed.items())


def _broker(url: str, port: int) -> Process:
    command = [sys.executable, "-m", "hyrex_broker", "--listen", f"127.0.0.1:{port}"]
    process = Process(f"broker {port}", command, {"HYREX_DATABASE_URL": url})
    process.wait_for(r"broker ready")
    return process


async def _storm(url: str, tasks: int, seed: int, *, run: bool) -> None:
    chance, ports = random.Random(seed), (50951, 50952)
    brokers = {port: _broker(url, port) for port in ports}
    urls = ",".join(f"grpc://127.0.0.1:{port}" for port in ports)
    command = [sys.executable, "-m", "hyrex.worker", "benchmarks.actors.app:app"]
    worker = Process("worker", command, {"HYREX_BROKER_URL": urls}) if run else None
    began, kills = time.monotonic(), 0
    sending = [asyncio.ensure_future(enqueue_randomly(url, tasks // 4, seed + n)) for n in range(4)]
    try:
        while not all(each.done() for each in sending):
            await asyncio.sleep(chance.uniform(1, 6))
            port = chance.choice(ports)
            brokers[port].kill()
            kills += 1
            brokers[port] = await asyncio.to_thread(_broker, url, port)
        committed = sum(await asyncio.gather(*sending))
        enqueued_s = time.monotonic() - began
        found = await until(url, lambda now: not now.left_over, 600)
        relayed_s = time.monotonic() - began
        print(f"{tasks:,} enqueued, {committed:,} committed in {enqueued_s:.0f} s; {kills} brokers killed")
        print(f"all relayed after {relayed_s:.0f} s: {found}")
        if run:
            found = await until(url, lambda now: now.completed == now.committed and not now.live, 1200)
            print(f"all run after {time.monotonic() - began:.0f} s: {found}")
        print("exactly the committed ones" if found.is_exact else "NOT the committed ones")
    finally:
        for process in (*brokers.values(), *([worker] if worker else [])):
            process.kill()


async def _main(options: argparse.Namespace, act: Callable[[str], Awaitable[Any]]) -> None:
    with EmbeddedPostgres() as server:
        await migrate(server.url)
        print("cost of a call:", await _cost(server.url))
        connection = await asyncpg.connect(server.url)
        await connection.execute(EXPECTED)
        await connection.close()
        if options.tasks:
            await act(server.url)


def main() -> None:
    """Measure and compare."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tasks", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--run", action="store_true", help="let a worker run them too")
    options = parser.parse_args()
    asyncio.run(_main(options, lambda url: _storm(url, options.tasks, options.seed, run=options.run)))


if __name__ == "__main__":
    main()
