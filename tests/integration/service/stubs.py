"""The services on a real server and a real channel; submits and cancels are recorded, not done."""

import asyncio
from collections.abc import AsyncIterator, Hashable, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import grpc.aio
import pytest
from google.rpc.error_details_pb2 import ErrorInfo
from grpc_status import rpc_status

from hyrex.v1 import (
    admin_service_pb2_grpc,
    queue_service_pb2_grpc,
    schedule_service_pb2_grpc,
    task_pb2,
    task_service_pb2,
    task_service_pb2_grpc,
    worker_service_pb2_grpc,
    workflow_service_pb2_grpc,
)
from hyrex.v1.task_service_pb2 import SUBMIT_OUTCOME_DEDUPLICATED, SUBMIT_OUTCOME_STORED
from hyrex_broker.config import MIB, BrokerConfig
from hyrex_broker.domain.errors import BrokerError, StorageUnavailable
from hyrex_broker.domain.model import (
    BrokerId,
    CancelOutcome,
    DismissOutcome,
    LaneId,
    RetryOutcome,
    SessionId,
    TaskId,
)
from hyrex_broker.domain.retention import RetentionTerms
from hyrex_broker.engine.audit import Audit
from hyrex_broker.engine.clock import DatabaseClock
from hyrex_broker.engine.extra_slots import LanesAndRooms
from hyrex_broker.engine.head_mark import HeadMark
from hyrex_broker.engine.known_tokens import KnownTokens
from hyrex_broker.engine.lane_directory import Directory
from hyrex_broker.engine.outbox import OutboxRelay
from hyrex_broker.engine.outside import OutsideCalls
from hyrex_broker.engine.refused_rows import RefusedRows
from hyrex_broker.engine.schedules import ScheduledSubmits
from hyrex_broker.engine.submit.keyed import KeyHasher
from hyrex_broker.engine.submit.rooms import Rooms
from hyrex_broker.engine.watches import Watches
from hyrex_broker.service.admin import AdminServicer
from hyrex_broker.service.complete_calls import CompleteCalls
from hyrex_broker.service.pages import PageTokens
from hyrex_broker.service.queues import QueueServicer
from hyrex_broker.service.refused import RefusedParts
from hyrex_broker.service.schedules import ScheduleParts, ScheduleServicer
from hyrex_broker.service.server import Servicers, build_server
from hyrex_broker.service.submit import PlacedResults, Results
from hyrex_broker.service.tasks import TaskParts, TaskServicer
from hyrex_broker.service.tokens import TokenParts
from hyrex_broker.steering import Steering, build_steering
from hyrex_broker.storage.audit import AuditStore
from hyrex_broker.storage.cancel import CancelStore, FoundByCancel, Requeued
from hyrex_broker.storage.depths import DepthStore
from hyrex_broker.storage.lanes import LaneStore
from hyrex_broker.storage.listing import TaskLists
from hyrex_broker.storage.marks import SCHEDULE_HEAD, MarkStore
from hyrex_broker.storage.outbox import OutboxStore
from hyrex_broker.storage.outside import OutsideStore
from hyrex_broker.storage.peers import PeerStore
from hyrex_broker.storage.pool import Database
from hyrex_broker.storage.queues import QueueStore
from hyrex_broker.storage.reads import TaskReads
from hyrex_broker.storage.replica import Either, ReadFrom
from hyrex_broker.storage.schedules import ScheduleStore
from hyrex_broker.storage.secrets import SecretStore
from hyrex_broker.storage.tokens import TokenStore
from tests.support.loops import end

ROOT = "the token that this broker was started with"


@dataclass
class Recorded:
    """What the engine was asked, and the gates that a test holds."""

    submits: list[list[str]] = field(default_factory=list)
    tasks: list[task_pb2.NewTask] = field(default_factory=list)
    gates: dict[str, asyncio.Event] = field(default_factory=dict)
    cancels: list[tuple[list[TaskId], str]] = field(default_factory=list)
    dismissed: list[tuple[list[TaskId], str]] = field(default_factory=list)
    changes: int = 0
    made: list[str] = field(default_factory=list)
    drained_sessions: list[SessionId] = field(default_factory=list)
    drained: asyncio.Event = field(default_factory=asyncio.Event)
    refusal: BrokerError | None = None
    lanes: dict[LaneId, tuple[str, str]] = field(default_factory=dict)
    followed: list[TaskId] = field(default_factory=list)
    woken: list[tuple[LaneId, int]] = field(default_factory=list)
    arrived: asyncio.Condition = field(default_factory=asyncio.Condition)

    async def submit(
        self,
        tasks: Sequence[task_pb2.NewTask],
        results: Results,
        patience_s: float | None = None,
        caller: Hashable = None,
    ) -> None:
        self.tasks += tasks
        for name in await self._let_pass([task.task_id for task in tasks]):
            result = results.add()
            result.task_id, result.outcome = name, SUBMIT_OUTCOME_STORED

    async def submit_groups(
        self,
        groups: Sequence[task_service_pb2.TaskGroup],
        results: PlacedResults,
        patience_s: float | None = None,
        caller: Hashable = None,
    ) -> None:
        """Answers with the names of the tasks, as if they were ids of earlier ones."""
        for place, name in enumerate(await self._let_pass([group.terms.name for group in groups])):
            result = results.add(place=place).result
            result.task_id, result.outcome = name, SUBMIT_OUTCOME_DEDUPLICATED

    async def _let_pass(self, names: list[str]) -> list[str]:
        async with self.arrived:
            self.submits.append(names)
            self.arrived.notify_all()
        if names and names[0] in self.gates:
            await self.gates[names[0]].wait()
        if self.refusal is not None:
            raise self.refusal
        return names

    async def submitted(self, count: int) -> None:
        """Wait until so many frames have arrived."""
        async with self.arrived:
            await self.arrived.wait_for(lambda: len(self.submits) >= count)

    async def cancel(self, task_ids: Sequence[TaskId], reason: str) -> list[CancelOutcome]:
        self.cancels.append((list(task_ids), reason))
        return [CancelOutcome.CANCELLED for _ in task_ids]

    async def retry(self, task_ids: Sequence[TaskId]) -> list[RetryOutcome]:
        return [RetryOutcome.REQUEUED for _ in task_ids]

    async def dismiss(self, task_ids: Sequence[TaskId], who: str) -> list[DismissOutcome]:
        self.dismissed.append((list(task_ids), who))
        return [DismissOutcome.DISMISSED for _ in task_ids]

    def follow_cancels(self, found: Sequence[FoundByCancel], reason: str) -> None:
        self.followed += [each.task_id for each in found]

    def follow_retries(self, requeued: Sequence[Requeued]) -> None:
        self.followed += [each.task_id for each in requeued]

    def wake(self, pairs: Iterable[tuple[LaneId, int]], *, local: bool) -> None:
        self.woken += pairs

    def expect(self) -> None:
        """Nothing: tasks with a delay stay where they are."""

    async def make_queues(self, names: Sequence[str]) -> None:
        self.made += names

    async def changed_here(self) -> None:
        self.changes += 1


@dataclass
class Stubs:
    """Clients of every service, and what is behind them."""

    tasks: Any
    queues: Any
    admin: Any
    schedules: Any
    workflows: Any
    recorded: Recorded
    watches: Watches
    steering: Steering
    audit: Audit
    tokens: KnownTokens | None

    def touch(self, *task_ids: TaskId) -> None:
        self.watches.touch(task_ids)


def storage_away() -> BrokerError:
    return StorageUnavailable("the database did not answer")


@asynccontextmanager
async def serving(database: Database, url: str, token: str | None = None) -> AsyncIterator[Stubs]:
    """All services on a free port; with a token, they ask for one."""
    recorded, reads = Recorded(), TaskReads(database)
    watches = Watches(reads)
    audit, store = Audit(AuditStore(database)), TokenStore(database)
    refused = _refused_rows(database, recorded)
    steering = build_steering(ReadFrom(database), BrokerId(1), recorded.lanes, recorded, audit, refused)
    tokens = KnownTokens(store, [token]) if token is not None else None
    pages = PageTokens(SecretStore(database))
    parts = TaskParts(
        recorded,
        recorded,
        CompleteCalls(OutsideCalls(OutsideStore(database), CancelStore(database)), reads, audit, MIB),
        reads,
        Either(TaskLists(database)),
        watches,
        audit,
        pages,
        recorded.drained,
    )
    token_parts = TokenParts(
        store,
        AuditStore(database),
        audit,
        pages,
        tokens is not None,
        tokens.hurry if tokens else lambda: None,
    )
    no_workers: Any = worker_service_pb2_grpc.WorkerServiceServicer
    no_workflows: Any = workflow_service_pb2_grpc.WorkflowServiceServicer
    servicers = Servicers(
        TaskServicer(parts),
        no_workers(),
        QueueServicer(
            Either(QueueStore(database)),
            recorded,
            lambda purged: watches.touch(purged.task_ids),
            audit,
            pages,
            RetentionTerms(timedelta(days=7), timedelta(days=30)),
        ),
        AdminServicer(
            Either(PeerStore(database)),
            recorded.drained_sessions.append,
            recorded.drained.set,
            steering.parts,
            token_parts,
            RefusedParts(refused, audit, pages, MIB),
        ),
        ScheduleServicer(_schedule_parts(database, recorded, audit, pages)),
        no_workflows(),
    )
    built = build_server(BrokerConfig(database_url=url, port=0, token=token), servicers, tokens)
    await built.server.start()
    loops = [watches.run(), steering.overview.run(), steering.bulk.run()]
    running = [asyncio.ensure_future(loop) for loop in (*loops, *([tokens.run()] if tokens else []))]
    try:
        options = (("grpc.max_receive_message_length", 16 * MIB),)
        async with grpc.aio.insecure_channel(f"127.0.0.1:{built.port}", options) as channel:
            yield Stubs(
                task_service_pb2_grpc.TaskServiceStub(channel),
                queue_service_pb2_grpc.QueueServiceStub(channel),
                admin_service_pb2_grpc.AdminServiceStub(channel),
                schedule_service_pb2_grpc.ScheduleServiceStub(channel),
                workflow_service_pb2_grpc.WorkflowServiceStub(channel),
                recorded,
                watches,
                steering,
                audit,
                tokens,
            )
    finally:
        async with asyncio.timeout(60):
            await built.server.stop(None)
        await end(*running)


def _refused_rows(database: Database, recorded: Recorded) -> RefusedRows:
    hasher = KeyHasher(SecretStore(database))
    lanes = LanesAndRooms(Directory(LaneStore(database)), Rooms(DepthStore(database)), recorded, hasher)
    promoter: Any = recorded
    relay = OutboxRelay(OutboxStore(database), lanes, promoter, MIB)
    return RefusedRows(database, relay, None, timedelta(days=30))


def _schedule_parts(database: Database, recorded: Recorded, audit: Audit, pages: PageTokens) -> ScheduleParts:
    store = ScheduleStore(database)
    hasher = KeyHasher(SecretStore(database))
    lanes = LanesAndRooms(Directory(LaneStore(database)), Rooms(DepthStore(database)), recorded, hasher)
    mark = HeadMark(SCHEDULE_HEAD, MarkStore(database))
    schedules = ScheduledSubmits(store, mark, lanes, DatabaseClock(), timedelta(seconds=15))
    return ScheduleParts(store, schedules, TaskReads(database), audit, pages, MIB)


async def reason_of(call: Any) -> str:
    """The reason with which a call is refused."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    return str(error_info(caught.value).reason)


async def outcome_of(call: Any) -> str:
    """The reason of a refusal, or "" of an answer."""
    try:
        await call
    except grpc.aio.AioRpcError as error:
        return str(error_info(error).reason)
    return ""


def error_info(error: grpc.aio.AioRpcError) -> ErrorInfo:
    """The ErrorInfo of a refused call."""
    info = ErrorInfo()
    assert rpc_status.from_call(error).details[0].Unpack(info)
    return info


def ids_of(tasks: Iterable[Any]) -> list[str]:
    """Ids of wire tasks."""
    return [task.task_id for task in tasks]
