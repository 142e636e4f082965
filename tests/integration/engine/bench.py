"""A whole engine without a server: its loops run, and workers are links that remember what they are sent."""

import asyncio
from collections.abc import AsyncIterator, Hashable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from hyrex_broker.building import build_engine
from hyrex_broker.config import BrokerConfig
from hyrex_broker.domain.assigned import AssignedBlock
from hyrex_broker.domain.errors import BrokerError
from hyrex_broker.domain.model import CancelOrder, LeaseRef, Receipt, SubmitAnswer, SubmitOutcome
from hyrex_broker.domain.rates import DeclaredLimit
from hyrex_broker.engine.sessions.resumption import Resumption
from hyrex_broker.engine.sessions.session import Introduction, ServedSession
from hyrex_broker.engine.submit.answers import Answer
from hyrex_broker.parts import Engine
from hyrex_broker.storage.brokers import BrokerStore
from hyrex_broker.storage.lanes import Definition
from hyrex_broker.storage.pool import Database
from hyrex_broker.storage.replica import ReadFrom
from hyrex_broker.storage.sessions import SessionInfo
from tests.integration.storage.stage import Ended, NewTask, block_of, block_of_returned, parted
from tests.support.assigned import AssignedRun, runs_of
from tests.support.loops import end


@dataclass
class Link:
    """A stream's end that writes down what is pushed."""

    backlogged: bool = False
    runs_written: int = 0
    frames: list[tuple[int, list[AssignedRun]]] = field(default_factory=list)
    acks: list[tuple[int, list[LeaseRef], list[CancelOrder]]] = field(default_factory=list)
    cancels: list[CancelOrder] = field(default_factory=list)
    left: int = 0
    error: BrokerError | None = None
    pushed: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def runs(self) -> list[AssignedRun]:
        """All runs that were sent."""
        return [run for _, runs in self.frames for run in runs]

    def push_assignments(self, before: int, sequence: int, blocks: Sequence[AssignedBlock]) -> None:
        self.frames.append((sequence, runs_of(blocks)))
        self.pushed.set()

    def push_heartbeat_ack(
        self, sequence: int, revoked: Sequence[LeaseRef], cancels: Sequence[CancelOrder]
    ) -> None:
        self.acks.append((sequence, list(revoked), list(cancels)))
        self.pushed.set()

    def push_cancels(self, cancels: Sequence[CancelOrder]) -> None:
        self.cancels += cancels
        self.pushed.set()

    def push_leave(self, reason: str) -> None:
        self.left += 1
        self.pushed.set()

    def sizes(self) -> dict[str, int]:
        return {}

    def push_broker_drain(self, deadline_s: float, jitter_s: float) -> None:
        self.pushed.set()

    def end(self, error: BrokerError) -> None:
        self.error = error
        self.pushed.set()

    async def until_runs(self, count: int) -> list[AssignedRun]:
        """Wait until so many runs were sent."""
        async with asyncio.timeout(60):
            while len(self.runs) < count:
                self.pushed.clear()
                await self.pushed.wait()
        return self.runs


@dataclass
class Bench:
    """A running engine."""

    engine: Engine
    database: Database
    loops: "list[asyncio.Future[None]]" = field(default_factory=list)

    async def stop(self) -> None:
        """Cancel the loops."""
        await end(*self.loops)

    async def submit(self, tasks: Sequence[NewTask], caller: Hashable = None) -> list[Answer]:
        """Store tasks, each as a block of its own; one answer for each."""
        blocks = [block_of(task) for task in tasks]
        others = await self.engine.intake.submission(blocks, caller)()
        stored = [SubmitAnswer(task.task_id, SubmitOutcome.STORED) for task in tasks]
        return [mine.get(0, answer) for mine, answer in zip(others, stored, strict=True)]

    async def report(self, ends: Sequence[Ended], caller: Hashable = None) -> list[Receipt]:
        """Report runs, those that returned apart from the others; one receipt for each."""
        returned, others = parted(ends)
        blocks = [block_of_returned([mine]) for mine in returned]
        reports = self.engine.reports
        refused, told = await asyncio.gather(
            reports.report_returned(blocks, caller), reports.report(others, caller)
        )
        receipts = {id(mine): receipt for mine, receipt in zip(others, told, strict=True)}
        for mine, each in zip(returned, refused, strict=True):
            duplicate = Receipt.DUPLICATE if each.duplicate else Receipt.ACCEPTED
            receipts[id(mine)] = Receipt.STALE if each.stale else duplicate
        return [receipts[id(mine)] for mine in ends]

    async def worker(
        self,
        capacity: int = 10,
        tasks: Sequence[str] = ("work",),
        limits: Sequence[DeclaredLimit | tuple[str, str, int]] = (),
    ) -> tuple[ServedSession, Link]:
        """A new session."""
        link = Link()
        return await self.engine.sessions.open(introduced(capacity, tasks, limits), link), link

    async def resumed(self, session: ServedSession) -> tuple[Resumption, Link]:
        """A session on a new stream of a worker that holds nothing any more."""
        link = Link()
        hello = introduced(sum(session.capacity.values()), list(session.profile.task_pools))
        return await self.engine.sessions.resume(session.session_id, session.secret, hello, link), link


def started(engine: Engine) -> "list[asyncio.Future[None]]":
    """The engine's loops, running."""
    return [asyncio.ensure_future(run()) for run in engine.loops()]


def introduced(
    capacity: int, tasks: Sequence[str], limits: Sequence[DeclaredLimit | tuple[str, str, int]] = ()
) -> Introduction:
    """What a worker's Hello says."""
    declared = [DeclaredLimit(*limit) for limit in limits]
    return Introduction(
        info=SessionInfo("worker", "host", 1, "test/1", ["*"], list(tasks), capacity, tuple(declared)),
        pools={"sync": capacity}, task_pools=dict.fromkeys(tasks, "sync"),
        definitions=[Definition(name, "default", 0, None, 5) for name in tasks],
        limits=declared, queues=[], held=[], received_through=0,
    )  # fmt: skip


@asynccontextmanager
async def running_engine(
    url: str, lease_s: float = 10.0, outbox_url: str | None = None
) -> AsyncIterator[Bench]:
    """An engine whose loops run until the block ends."""
    database = Database(url, hot_connections=4, read_connections=1)
    await database.open()
    broker = await BrokerStore(database).register("bench", "127.0.0.1:1", "1")
    config = BrokerConfig(database_url=url, port=0, lease_duration_s=lease_s, outbox_url=outbox_url)
    engine = build_engine(config, ReadFrom(database), broker)
    await engine.directory.refresh()
    bench = Bench(engine, database, started(engine))
    try:
        yield bench
        assert not [loop for loop in bench.loops if loop.done()], "a loop of the engine has ended"
    finally:
        await bench.stop()
        await database.close()
