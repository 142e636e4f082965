"""sdk_cycle_per_s: send_many -> worker processes with pydantic arguments -> results recorded;
sdk_single_cycle_per_s: the same with plain send() from 32 threads.

Timed from the first call to the moment at which no task is ready or leased any more.
"""

import asyncio
import time
from typing import Any

import asyncpg

from benchmarks.guards import NO_GUARD, Guard
from benchmarks.rounds import Round
from benchmarks.stage import Stage, run
from benchmarks.usage import Cpu, worker_groups
from hyrex_broker.storage.pool import HOT_SETTINGS

CHUNK = 5_000
SENDERS = 2  # as the raw producer has frames under way while it makes the next
THREADS = 32
WITHIN_S = 600.0
LOOK_EVERY_S = 0.005
LIVE = "select exists (select from ready) or exists (select from lease) or exists (select from delayed)"


class SdkSystem:
    """A broker, a worker with its default settings, and a process that sends."""

    def __init__(self, stage: Stage, guard: Guard = NO_GUARD) -> None:
        self.database = stage.database()
        self.broker = stage.broker(self.database, *guard.broker_flags(), env=guard.broker_env())
        env = guard.client_env(self.broker)
        self.worker = stage.worker(self.broker.url, *guard.worker_flags(), env=env)
        self.sender = stage.actor("sdk_sender", env={"HYREX_BROKER_URL": self.broker.url} | env)
        self.around = guard.around


class SdkCycle:
    """Cycles through a whole system, by one way of sending."""

    def __init__(self, stage: Stage, system: SdkSystem, *, single: bool = False, name: str = "") -> None:
        self.name = name or ("sdk_single_cycle" if single else "sdk_cycle")
        self._stage = stage
        self._order = {"threads": THREADS} if single else {"threads": SENDERS, "chunk": CHUNK}
        self._system = system

    def processes(self) -> dict[str, list[int]]:
        """By name."""
        system = self._system
        return {
            "broker": [system.broker.process.pid],
            **worker_groups(system.worker.pid),
            "producer": [system.sender.pid],
        }

    def round(self, tasks: int) -> Round:
        """Send, run and record so many tasks."""
        cpu = Cpu(self._stage.postmaster, self.processes())
        with self._system.around():
            began = self._system.sender.ask(WITHIN_S, count=tasks, **self._order)["began"]
            run(idle(self._system.database))
        return Round.of(tasks, time.monotonic() - began, cpu.seconds())


async def idle(database_url: str) -> None:
    """Return when no task is ready, leased or delayed."""
    connection: Any = await asyncpg.connect(database_url, server_settings=HOT_SETTINGS)
    try:
        async with asyncio.timeout(WITHIN_S):
            while True:
                if not await connection.fetchval(LIVE):
                    return
                await asyncio.sleep(LOOK_EVERY_S)
    finally:
        await connection.close()
