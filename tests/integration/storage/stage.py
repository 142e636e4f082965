"""A stage for storage tests: every store on one database, and the moves of a task in one line each."""

import os
import time
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, fields, replace
from datetime import UTC, datetime, timedelta
from typing import Any, Self
from uuid import UUID

from hyrex_broker.domain.blocks import TaskBatch, TaskBlock, batch_of
from hyrex_broker.domain.ended import EndBlock, Named, joined
from hyrex_broker.domain.ids import hex_id, task_id
from hyrex_broker.domain.model import (
    BrokerId,
    LaneId,
    Outcome,
    RunEnd,
    SessionId,
    TaskExtras,
    TaskId,
    Terms,
    Token,
)
from hyrex_broker.domain.states import Live, TaskState, end_state, state_of
from hyrex_broker.storage.assign import AssignStore, LaneQuota, Plan
from hyrex_broker.storage.brokers import BrokerStore
from hyrex_broker.storage.cancel import CancelStore
from hyrex_broker.storage.lanes import LaneKey, LaneStore
from hyrex_broker.storage.pool import Database
from hyrex_broker.storage.promote import PromoteStore
from hyrex_broker.storage.report import RemovedLease, ReportStore, Unmatched
from hyrex_broker.storage.sessions import Opened, SessionInfo, SessionStore
from hyrex_broker.storage.slack import slack_ms
from hyrex_broker.storage.submit import StoredKey, SubmitStore
from tests.support.assigned import AssignedRun, runs_of

ZERO = datetime(1970, 1, 1, tzinfo=UTC)
LEASE = timedelta(seconds=15)
SECRET = b"0123456789abcdef"
INFO = SessionInfo("worker-1", "host", 1, "test/1", ["*"], ["work"], 100)
_OLDER_SECOND = 1000


@dataclass(slots=True)
class NewTask:
    """One task to store."""

    task_id: TaskId
    terms: Terms
    payload: bytes = b"{}"
    parent_id: TaskId | None = None
    root_id: TaskId | None = None
    digest: int = 0
    key: str | None = None
    headers: dict[str, str] | None = None
    trace_context: bytes | None = None
    concurrency_key: str | None = None
    fair_key: str | None = None


_OWN = [each.name for each in fields(NewTask)][2:]


def make_id(milliseconds: int | None = None) -> TaskId:
    """A UUIDv7 of now, or of another time (Unix milliseconds)."""
    moment = int(time.time() * 1000) if milliseconds is None else milliseconds
    random = int.from_bytes(os.urandom(10))
    number = (moment << 80) | (7 << 76) | (random & ~(0xF << 76) & ~(0x3 << 62)) | (2 << 62)
    return TaskId(str(UUID(int=number)))


def new_task(task_id: TaskId | None = None, extras: TaskExtras | None = None, **changes: Any) -> NewTask:
    """A plain task; name any field to change it, or any of its terms."""
    terms = Terms(
        "work", "default", rank=5, max_retries=0, timeout_ms=None, retry_delay_ms=None, extras=extras
    )
    own = {name: changes.pop(name) for name in _OWN if name in changes}
    task = NewTask(task_id or make_id(), replace(terms, **changes), **own)
    task.digest = task.digest or hash(task.payload)
    return task


def block_of(task: NewTask) -> TaskBlock:
    """A task as a block of its own."""
    return TaskBlock(
        task.terms,
        task.parent_id,
        task.root_id,
        [hex_id(task.task_id)],
        [task.payload],
        [task.digest],
        None if task.headers is None else [task.headers],
        None if task.key is None else [task.key],
        None if task.trace_context is None else [task.trace_context],
        None if task.concurrency_key is None else [task.concurrency_key],
        None if task.fair_key is None else [task.fair_key],
    )


@dataclass(slots=True)
class Ended(RunEnd):
    """How one run ended, be it by returning."""

    result: bytes = b"null"
    content_type: str | None = None


@dataclass
class Stage:
    """Stores, one broker, and a counter for tokens and sequences."""

    database: Database
    broker: BrokerId = field(default_factory=lambda: BrokerId(0))
    token: int = 1_000_000
    sequence: int = 0
    names: dict[LaneId, tuple[str, str]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        slack = slack_ms(LEASE)
        self.submits, self.assigns = SubmitStore(self.database, slack), AssignStore(self.database, slack)
        self.reports, self.cancels = ReportStore(self.database, slack), CancelStore(self.database)
        self.promotes, self.lanes = PromoteStore(self.database), LaneStore(self.database)
        self.sessions = SessionStore(self.database, LEASE)

    @classmethod
    @asynccontextmanager
    async def on(cls, url: str, *, connections: int = 4, schema: str = "hyrex") -> AsyncIterator[Self]:
        """A stage with a broker of its own."""
        database = Database(url, schema=schema, hot_connections=connections, read_connections=1)
        await database.open()
        try:
            stage = cls(database)
            stage.broker = await BrokerStore(database).register("stage", "127.0.0.1:1", "1")
            stage.token = stage.broker * 1_000_000
            yield stage
        finally:
            await database.close()

    async def execute(self, sql: str, *args: object) -> Any:
        """The first value of any statement."""
        row = await self.database.fetchrow(sql, *args)
        return row[0] if row else None

    async def lane(self, queue: str = "default", name: str = "work", *, followed: bool = False) -> LaneId:
        (lane,) = await self.lanes.intern({LaneKey(queue, name, followed)}, 1)
        self.names[lane.lane_id] = (lane.queue, lane.name)
        return lane.lane_id

    async def batch(self, tasks: Iterable[NewTask]) -> TaskBatch:
        """Tasks as the intake hands them to storage: in the order of their ids, with their lanes."""
        blocks = [block_of(task) for task in tasks]
        for block in blocks:
            followed = block.concurrency_keys is not None
            block.lane = await self.lane(block.terms.queue, block.terms.name, followed=followed)
        return batch_of(blocks)

    async def submit(self, *tasks: NewTask) -> dict[TaskId, bool]:
        """Store tasks; those stored now, and whether they wait for their time."""
        batch = await self.batch(tasks)
        if any(block_of(task).may_wait for task in tasks):
            stored = await self.submits.submit_waiting(batch)
        else:
            stored = dict.fromkeys(await self.submits.submit(batch), False)
        return {task_id(digits): waits for digits, waits in stored.items()}

    async def classify(self, *tasks: NewTask) -> dict[TaskId, StoredKey]:
        """What is known of tasks that were not stored."""
        batch = await self.batch(tasks)
        known = await self.submits.classify(batch)
        return {task_id(digits): found for digits, found in zip(batch.ids, known, strict=True)}

    async def submitted(self, count: int = 1, **changes: Any) -> list[TaskId]:
        """Store some plain tasks; their ids in order."""
        return list(await self.submit(*(new_task(**changes) for _ in range(count))))

    async def session(self, info: SessionInfo = INFO) -> Opened:
        return await self.sessions.open(self.broker, SECRET, info)

    def plan(
        self, opened: Opened | Sequence[Opened], lane: LaneId, count: int = 1, mark: datetime = ZERO
    ) -> Plan:
        """An assign of one lane, its slots dealt to the sessions in turn."""
        sessions = [opened] if isinstance(opened, Opened) else list(opened)
        base, self.token = self.token, self.token + count
        self.sequence += 1
        slots = [sessions[place % len(sessions)].session_id for place in range(count)]
        return Plan(
            self.broker,
            {each.session_id: each.generation for each in sessions},
            {each.session_id: self.sequence for each in sessions},
            # Odd, as those of followed lanes are: the sweep looks at their ends.
            [Token(2 * (base + place) + 1) for place in range(count)],
            [LaneQuota(lane, [(rank, mark) for rank in range(10)], slots)],
        )

    async def assign(self, opened: Opened, count: int = 1, lane: LaneId | None = None) -> list[AssignedRun]:
        """Take up to `count` runs for a session."""
        lane = lane if lane is not None else await self.lane()
        result = await self.assigns.assign(self.plan(opened, lane, count), self.names)
        return runs_of(result.blocks)

    async def assign_limited(
        self, opened: Opened | Sequence[Opened], lane: LaneId, limits: list[tuple[str, str]], count: int = 1
    ) -> list[AssignedRun]:
        """Take up to `count` runs from a lane with limits."""
        result = await self.assigns.assign_limited(self.plan(opened, lane, count), self.names, {lane: limits})
        assert not result.refused
        return runs_of(result.blocks)

    async def running(self, **changes: Any) -> tuple[Opened, AssignedRun]:
        """A new task in the hands of a new session."""
        await self.submitted(**changes)
        opened = await self.session()
        (run,) = await self.assign(opened)
        return opened, run

    async def end(self, run: AssignedRun, outcome: Outcome, **changes: Any) -> list[RemovedLease]:
        """Report one run."""
        return await self.ended([end_of(run, outcome, **changes)])

    async def ended(self, ends: Sequence[RunEnd]) -> list[RemovedLease]:
        """Report runs: first those that returned, in one block, then the others."""
        returned, others = parted(ends)
        removed: list[RemovedLease] = []
        if returned:
            block = joined([block_of_returned(returned)])
            for each in await self.reports.end_returned(block):
                mine = block if each.places is None else block.taking(each.places)
                names = zip(mine.task_ids, mine.tokens, strict=True)
                removed += [
                    RemovedLease(task_id(digits), token, each.lane, each.session_id)
                    for digits, token in names
                ]
        return removed + (await self.reports.end(others) if others else [])

    async def classify_reports(self, ends: Sequence[RunEnd]) -> list[Unmatched]:
        """What became of reports that matched no lease."""
        return await self.reports.classify([named(end) for end in ends])

    async def state(self, task_id: TaskId) -> TaskState | None:
        """Where a task stands, by the tables; None if it is unknown."""
        row = await self.database.fetchrow(_STATE, task_id)
        assert row is not None
        lives = [live for live in Live if row[live.value] is not None]
        assert len(lives) <= 1, f"{task_id} lives in {lives}"
        if lives:
            return state_of(lives[0], row[lives[0].value])
        return None if row["outcome"] is None else end_state(Outcome(row["outcome"]))

    async def runs(self, task_id: TaskId) -> list[dict[str, Any]]:
        """The recorded runs of a task."""
        rows = await self.database.fetch(
            "select * from task_run where task_id = $1 order by run_number", task_id
        )
        return [dict(row) for row in rows]

    async def expire(self, session_id: SessionId, seconds: float = 1) -> None:
        """Let a session's time be over."""
        await self.execute(
            "update worker_session set expires_at = now() - $2::interval where id = $1",
            session_id,
            timedelta(seconds=seconds),
        )

    async def due_now(self) -> None:
        """Let every delayed task be due, and promote it."""
        await self.execute("update delayed set run_at = now() - interval '1 second'")
        await self.promotes.promote(ZERO, 1000)


def end_of(run: AssignedRun, outcome: Outcome, **changes: Any) -> Ended:
    """The end of a run as a worker would report it."""
    end = Ended(run.task_id, run.token, run.session_id, outcome, elapsed_us=_OLDER_SECOND)
    return replace(end, **changes)


def named(end: RunEnd) -> Named:
    """What a report is about."""
    return hex_id(end.task_id), end.token, end.session_id


def parted(ends: Sequence[RunEnd]) -> tuple[list[Ended], list[RunEnd]]:
    """Runs that returned, and the others: two kinds of report."""
    returned = [end for end in ends if isinstance(end, Ended) and end.outcome is Outcome.COMPLETED]
    return returned, [end for end in ends if end.outcome is not Outcome.COMPLETED]


def block_of_returned(ends: Sequence[Ended]) -> EndBlock:
    """Runs that returned, as a worker reports them."""
    return EndBlock(
        [hex_id(end.task_id) for end in ends],
        [end.token for end in ends],
        [end.result for end in ends],
        [end.elapsed_us or 0 for end in ends],
        [end.session_id for end in ends],
        [end.content_type for end in ends],
    )


_STATE = """
select (select run_number from ready where task_id = i.id) as ready,
       (select run_number from delayed where task_id = i.id) as delayed,
       (select run_number from lease where task_id = i.id) as lease,
       (select run_number from blocked where task_id = i.id) as blocked,
       (select outcome from task_run where task_id = i.id order by run_number desc limit 1) as outcome
from (select $1::uuid as id) i
"""
