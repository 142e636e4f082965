"""What spreading a backlog over queues costs: `python -m benchmarks.lanes [QUEUES...]`.

An engine without a server, in this process: 20,000 tasks are submitted by the thousand to so many queues,
then one session takes them all. Microseconds a task: storing them, and assigning them (plans, statements,
pushes); and the longest pause of the loop meanwhile.
"""

import asyncio
import sys
import time
from collections.abc import Sequence
from typing import Final

from benchmarks.stage import Stage
from hyrex.backend.ids import new_task_id
from hyrex.v1 import task_pb2
from hyrex_broker.building import build_engine
from hyrex_broker.config import BrokerConfig
from hyrex_broker.domain.assigned import AssignedBlock
from hyrex_broker.domain.blocks import TaskBlock
from hyrex_broker.domain.errors import BrokerError
from hyrex_broker.domain.ids import hex_id
from hyrex_broker.domain.model import TaskId
from hyrex_broker.engine.sessions.session import Introduction
from hyrex_broker.parts import Engine
from hyrex_broker.service.terms import KnownTerms
from hyrex_broker.storage.brokers import BrokerStore
from hyrex_broker.storage.lanes import Definition
from hyrex_broker.storage.pool import Database
from hyrex_broker.storage.replica import ReadFrom
from hyrex_broker.storage.sessions import SessionInfo

TASKS: Final = 20_000
FRAME: Final = 1_000
QUEUES: Final = (1, 100, 1_000, 20_000)


class Sink:
    """The end of a stream that counts what it is sent."""

    backlogged = False
    runs_written = 0

    def __init__(self) -> None:
        self.count = 0
        self.full = asyncio.Event()

    def push_assignments(self, before: int, sequence: int, blocks: Sequence[AssignedBlock]) -> None:
        self.count += sum(map(len, blocks))
        if self.count >= TASKS:
            self.full.set()

    def push_heartbeat_ack(self, *args: object) -> None: ...
    def push_cancels(self, *args: object) -> None: ...
    def push_leave(self, *args: object) -> None: ...
    def sizes(self) -> dict[str, int]:
        return {}

    def push_broker_drain(self, *args: object) -> None: ...
    def end(self, error: BrokerError) -> None: ...


def main() -> int:
    """The exit status."""
    with Stage() as stage:
        for queues in map(int, sys.argv[1:]) if len(sys.argv) > 1 else QUEUES:
            asyncio.run(_measure(stage_url(stage), queues))
    return 0


def stage_url(stage: Stage) -> str:
    return stage.database()


async def _measure(url: str, queues: int) -> None:
    database = Database(url)
    await database.open()
    broker = await BrokerStore(database).register("lanes", "127.0.0.1:1", "1")
    engine = build_engine(BrokerConfig(database_url=url, port=0), ReadFrom(database), broker)
    await engine.directory.refresh()
    loops = [asyncio.ensure_future(run()) for run in engine.loops()]
    pause = asyncio.ensure_future(_longest_pause())
    began = time.perf_counter()
    await _submit(engine, queues)
    stored = time.perf_counter()
    sink = Sink()
    await engine.sessions.open(_introduction(), sink)
    await asyncio.wait_for(sink.full.wait(), 600)
    assigned = time.perf_counter()
    pause.cancel()
    longest = await pause
    print(
        f"{queues:6} queues: stored {(stored - began) * 1e6 / TASKS:7.1f} us a task,"
        f" assigned {(assigned - stored) * 1e6 / TASKS:7.1f} us, longest pause {longest * 1000:.0f} ms",
        flush=True,
    )
    for loop in loops:
        loop.cancel()
    await asyncio.gather(*loops, return_exceptions=True)
    await database.close()


async def _submit(engine: Engine, queues: int) -> None:
    known = KnownTerms()
    for first in range(0, TASKS, FRAME):
        blocks = []
        for number in range(first, first + FRAME):
            terms = known.of(task_pb2.NewTask(name="work", queue=f"q{number % queues}")).terms
            digits = hex_id(TaskId(new_task_id()))
            blocks.append(TaskBlock(terms, None, None, [digits], [b"[1]"], [number]))
        await engine.intake.submission(blocks)()


async def _longest_pause() -> float:
    longest, before = 0.0, time.perf_counter()
    try:
        while True:
            await asyncio.sleep(0.001)
            now = time.perf_counter()
            longest, before = max(longest, now - before), now
    except asyncio.CancelledError:
        return longest


def _introduction() -> Introduction:
    return Introduction(
        info=SessionInfo("worker", "host", 1, "test/1", ["*"], ["work"], TASKS),
        pools={"sync": TASKS}, task_pools={"work": "sync"},
        definitions=[Definition("work", "default", 0, None, 5)],
        limits=[], queues=[], held=[], received_through=0,
    )  # fmt: skip


if __name__ == "__main__":
    sys.exit(main())
