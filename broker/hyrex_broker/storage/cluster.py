"""The cluster at one moment, in bounded looks: no statement counts or reads a table."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from hyrex_broker.domain.model import SessionId, TaskId
from hyrex_broker.storage.pool import Database, Transaction
from hyrex_broker.storage.queues import COUNT_CAP
from hyrex_broker.storage.settings import ONLY_PROBES
from hyrex_broker.storage.statements import load

_SQL: Final = load("cluster")
_QUEUES: Final = load("queues")
_MOST_QUEUES: Final = 1000
_MOST_COUNTED: Final = 1_000_000


@dataclass(frozen=True, slots=True)
class QueueDepth:
    """What waits and runs in a queue; "" stands for all of them together."""

    queue: str
    ready: int
    delayed: int
    blocked: int
    running: int
    oldest_s: float | None


@dataclass(frozen=True, slots=True)
class Held:
    """A run that a session holds."""

    session_id: SessionId
    task_id: TaskId
    queue: str
    name: str
    since: datetime
    run_number: int


@dataclass(frozen=True, slots=True)
class StrangeTask:
    """A ready task's name that no live session has."""

    queue: str
    name: str
    since: datetime


@dataclass(frozen=True, slots=True)
class FullLimit:
    """A limit behind which tasks have waited for long."""

    scope: str
    name: str
    maximum: int
    since: datetime


@dataclass(frozen=True, slots=True)
class RefusedInQueue:
    """Rows of the outbox that were to be tasks of a queue, and were refused."""

    queue: str
    count: int
    since: datetime
    reason: str
    """Of the newest one."""
    beside: bool = False
    """In the outbox beside the database."""


class ClusterStore:
    """Statements of `cluster.sql`. Each method raises StorageUnavailable."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def oldest(self, queues: Sequence[str]) -> dict[str, datetime]:
        """Since when the oldest ready task of each queue waits; queues without one are missing."""
        async with self._database.transaction(read=True) as transaction:
            await transaction.set_local(ONLY_PROBES)
            return await _oldest(transaction, queues)

    async def running(self, sessions: Sequence[SessionId], most: int) -> list[Held]:
        """What sessions hold, up to `most` each, by session, the longest first."""
        rows = await self._database.fetch(_SQL["running"], list(sessions), most, read=True)
        return [
            Held(
                SessionId(row["session_id"]),
                TaskId(str(row["task_id"])),
                row["queue"],
                row["name"],
                row["assigned_at"],
                row["run_number"],
            )
            for row in rows
        ]

    async def strange_tasks(self, queues: Sequence[str], most: int) -> list[StrangeTask]:
        """Ready tasks in some queues by name that no live session has."""
        async with self._database.transaction(read=True) as transaction:
            await transaction.set_local(ONLY_PROBES)
            rows = await transaction.fetch(_SQL["strange_tasks"], list(queues), most)
        return [StrangeTask(row["queue"], row["name"], row["arrival"]) for row in rows]

    async def full_limits(self, queues: Sequence[str] | None, most: int) -> list[FullLimit]:
        """Limits that are reached while a task has waited behind them for 5 minutes: those of some queues, or
        (None) of all queues and tasks."""
        names = None if queues is None else list(queues)
        async with self._database.transaction(read=True) as transaction:
            await transaction.set_local(ONLY_PROBES)
            rows = await transaction.fetch(_SQL["full_limits"], names, most)
        return [FullLimit(row["scope"], row["name"], row["maximum"], row["arrival"]) for row in rows]

    async def refused_rows(self, queues: Sequence[str] | None, most: int) -> list[RefusedInQueue]:
        """The newest refused rows of the outbox: for some queues, or (None) for all."""
        names = None if queues is None else list(queues)
        rows = await self._database.fetch(_SQL["refused_rows"], names, most, read=True)
        return [RefusedInQueue(row["queue"], row["count"], row["since"], row["reason"]) for row in rows]

    @staticmethod
    async def depths(transaction: Transaction) -> list[QueueDepth]:
        """What waits and runs in the first 1,000 queues by name, as far as they have something, and in those
        together."""
        await transaction.set_local(ONLY_PROBES)
        total = await transaction.fetchrow(_SQL["how_many_queues"], _MOST_QUEUES)
        assert total is not None
        cap = max(min(COUNT_CAP, _MOST_COUNTED // max(total[0], 1)), 1)
        rows = await transaction.fetch(_QUEUES["queues"], "", None, _MOST_QUEUES, cap)
        oldest = await _oldest(transaction, [row["name"] for row in rows if row["queued"]])
        row = await transaction.fetchrow(_QUEUES["now"])
        assert row is not None
        found = [
            QueueDepth(
                each["name"],
                min(each["queued"], cap),
                each["delayed"],
                each["blocked"],
                each["running"],
                (row[0] - oldest[each["name"]]).total_seconds() if each["name"] in oldest else None,
            )
            for each in rows
            if each["queued"] or each["delayed"] or each["blocked"] or each["running"]
        ]
        return [_together(found), *found]


def _together(found: Sequence[QueueDepth]) -> QueueDepth:
    return QueueDepth(
        "",
        sum(each.ready for each in found),
        sum(each.delayed for each in found),
        sum(each.blocked for each in found),
        sum(each.running for each in found),
        max((each.oldest_s for each in found if each.oldest_s is not None), default=None),
    )


async def _oldest(transaction: Transaction, queues: Sequence[str]) -> dict[str, datetime]:
    if not queues:
        return {}
    rows = await transaction.fetch(_SQL["oldest"], list(queues))
    return {row["queue"]: row["arrival"] for row in rows}
