"""What brokers counted over time: rows for charts, insert-only, by day."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Final

from hyrex_broker.domain.model import BrokerId
from hyrex_broker.storage.cluster import ClusterStore
from hyrex_broker.storage.pool import Database, Transaction
from hyrex_broker.storage.statements import load

_SQL: Final = load("stats")
ALL: Final = ""
"""The queue of rows that are about all queues together: no queue's name is empty."""
FINE: Final = timedelta(seconds=10)
"""The step in which brokers write; `stats.sql` names it as well."""
COARSE: Final = timedelta(minutes=5)
_SUMS: Final = ("submitted", "completed", "failed", "timed_out", "cancelled", "lost", "runs")


@dataclass(slots=True)
class Counted:
    """What one broker counted of a queue in one step."""

    queue: str
    submitted: int = 0
    completed: int = 0
    failed: int = 0
    timed_out: int = 0
    cancelled: int = 0
    lost: int = 0
    runs: int = 0
    waits: list[int] = field(default_factory=list)
    """How many waits by bucket of RUN_BOUNDS_US."""
    run_times: list[int] = field(default_factory=list)
    run_us: int = 0


@dataclass(slots=True)
class Point:
    """What all brokers counted in one step; depths are None where nobody looked."""

    at: datetime
    counted: Counted
    ready: int | None
    delayed: int | None
    blocked: int | None
    running: int | None
    oldest_s: float | None


@dataclass(frozen=True, slots=True)
class TimeRange:
    """A range of time in steps."""

    since: datetime
    until: datetime
    step: timedelta


class StatStore:
    """Statements of `stats.sql`. Each method raises StorageUnavailable."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def write(self, broker: BrokerId, rows: Sequence[Counted]) -> None:
        """Store what a broker counted in the step that has just ended."""
        columns = [[getattr(row, name) for row in rows] for name in ("queue", *_SUMS)]
        buckets = [[_array(row.waits) for row in rows], [_array(row.run_times) for row in rows]]
        spent = [row.run_us for row in rows]
        await self._database.execute(_SQL["write"], broker, *columns, *buckets, spent)

    async def look_at_depths(self, broker: BrokerId) -> bool:
        """Store how much waits and runs, unless another broker does so in this step; True if this one did."""
        async with self._database.transaction(read=True) as transaction:
            if not await _elected(transaction):
                return False
            row = await transaction.fetchrow(_SQL["looked_lately"])
            if row is None or row[0]:
                return False
            depths = await ClusterStore.depths(transaction)
            columns = [
                [getattr(each, name) for each in depths]
                for name in ("queue", "ready", "delayed", "blocked", "running", "oldest_s")
            ]
            await transaction.execute(_SQL["write_depths"], broker, *columns)
        return True

    async def roll_up(self) -> None:
        """Add up what ended some minutes ago to steps of 5 minutes, unless another broker does."""
        async with self._database.transaction(read=True) as transaction:
            if await _elected(transaction):
                await transaction.execute(_SQL["roll_up"])

    async def points(self, queue: str, span: TimeRange) -> list[Point]:
        """What was counted of a queue (or ALL), by step; steps without anything are left out."""
        arguments = (queue, span.since, span.until, span.step, span.step >= COARSE)
        rows = await self._database.fetch(_SQL["points"], *arguments, read=True)
        points = {row["slot"]: _point(queue, row) for row in rows}
        for row in await self._database.fetch(_SQL["distributions"], *arguments, read=True):
            point = points.get(row["slot"])
            if point is not None:
                buckets = point.counted.run_times if row["kind"] else point.counted.waits
                buckets += [0] * (row["place"] - len(buckets))
                buckets[row["place"] - 1] = row["n"]
        return list(points.values())

    async def rates(self, broker: BrokerId) -> dict[str, Counted]:
        """What the other brokers counted of each queue in one of the last steps."""
        rows = await self._database.fetch(_SQL["rates"], broker, read=True)
        return {
            row["queue"]: Counted(row["queue"], row["submitted"], row["completed"], row["failed"])
            for row in rows
        }


async def _elected(transaction: Transaction) -> bool:
    row = await transaction.fetchrow(_SQL["elect"])
    return row is not None and bool(row["elected"])


def _array(counts: Sequence[int]) -> str:
    return "{" + ",".join(map(str, counts)) + "}"


def _point(queue: str, row: Any) -> Point:
    counted = Counted(queue, run_us=int(row["run_us"]), **{name: row[name] for name in _SUMS})
    depths = (row[name] for name in ("ready", "delayed", "blocked", "running", "oldest_s"))
    return Point(row["slot"], counted, *depths)
