"""What follows from the ends of tasks that others wait for: statements of `follow.sql`.

They may wait for a stripe, so they use connections of their own (`Database.fetch_apart`).
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Final

from hyrex_broker.domain.ids import lowest_id
from hyrex_broker.domain.model import BrokerId, LaneId, TaskId
from hyrex_broker.storage.pool import Database
from hyrex_broker.storage.statements import load

_SQL: Final = load("follow")
FIRST: Final = lowest_id(0)


@dataclass(frozen=True, slots=True)
class MovedTask:
    """A task that became ready; without a rank, one that ended since its key was busy."""

    task_id: TaskId
    lane: LaneId
    rank: int | None


@dataclass(frozen=True, slots=True)
class SweptPage:
    """Tasks that must be followed, and the last one that was looked at (None: there is no other)."""

    task_ids: list[TaskId]
    last: TaskId | None


@dataclass(frozen=True, slots=True)
class Unfollowed:
    """What must be followed of a page of ends, and the last of them (None: there is no other)."""

    task_ids: list[TaskId] = field(default_factory=list)
    keys: list[int] = field(default_factory=list)
    last: tuple[datetime, TaskId] | None = None


class FollowStore:
    """Raises StorageUnavailable; every call may be repeated."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self.counters = database.counters

    async def follow(self, task_ids: Collection[TaskId], keys: Sequence[int] = ()) -> list[MovedTask]:
        """Go on from the ends of tasks, or from their being blocked; return what became ready or ended."""
        rows = await self._database.fetch_apart(_SQL["follow"], sorted(task_ids), sorted(keys))
        return [MovedTask(TaskId(str(row[0])), row[1], row[2]) for row in rows]

    async def elected(self, broker: BrokerId, settled: timedelta) -> datetime | None:
        """A time, at least so long ago, before which nothing more appears; None if another broker sweeps."""
        row = await self._database.fetchrow(_SQL["elected"], broker, settled, read=True)
        return row["settled"] if row is not None and row["elected"] else None

    async def ended(self, above: tuple[datetime, TaskId], until: datetime, limit: int) -> Unfollowed:
        """Of the next ends, up to `limit` by their times: what nobody has followed."""
        return await self._unfollowed("ended", above, until, limit)

    async def entered(self, above: tuple[datetime, TaskId], until: datetime, limit: int) -> Unfollowed:
        """The same of tasks that were put into `blocked`."""
        return await self._unfollowed("entered", above, until, limit)

    async def _unfollowed(
        self, name: str, above: tuple[datetime, TaskId], until: datetime, limit: int
    ) -> Unfollowed:
        rows = await self._database.fetch(_SQL[name], *above, until, limit)
        found = Unfollowed(
            [TaskId(str(row["task_id"])) for row in rows if row["at"] is None and row["key"] is None],
            [row["key"] for row in rows if row["key"] is not None],
        )
        last = next(((row["at"], TaskId(str(row["task_id"]))) for row in rows if row["at"] is not None), None)
        return replace(found, last=last)

    async def dead_seats(self, above: TaskId, limit: int) -> SweptPage:
        """Tasks that have ended and still have a seat, among so many seats."""
        return await self._page("dead_seats", above, limit)

    async def stuck(self, above: TaskId, limit: int) -> SweptPage:
        """Blocked tasks that need not wait, among so many."""
        return await self._page("stuck", above, limit)

    async def _page(self, name: str, above: TaskId, limit: int) -> SweptPage:
        rows = await self._database.fetch(_SQL[name], above, limit)
        last = next((row["task_id"] for row in rows if row["last"]), None)
        found = [TaskId(str(row["task_id"])) for row in rows if not row["last"]]
        return SweptPage(found, None if last is None else TaskId(str(last)))
