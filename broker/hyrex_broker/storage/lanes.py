"""Lanes, limits and pauses: what the broker must know of the queues to plan an assign."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Final

from hyrex_broker.domain.model import LaneId
from hyrex_broker.storage.pool import Database
from hyrex_broker.storage.statements import load

_SQL: Final = load("lanes")


@dataclass(frozen=True, slots=True)
class Lane:
    """An interned (queue, task name)."""

    lane_id: LaneId
    queue: str
    name: str


@dataclass(frozen=True, slots=True)
class Limit:
    """Most leases at once. `scope` is "queue" or "task", `source` is "code" or "operator"."""

    scope: str
    name: str
    maximum: int
    source: str


@dataclass(frozen=True, slots=True)
class Definition:
    """A task definition as its code has it, for people."""

    name: str
    queue: str
    max_retries: int
    timeout_ms: int | None
    priority: int


class LaneStore:
    """Statements of `lanes.sql`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def lanes(self, above: LaneId) -> list[Lane]:
        """Lanes with an id above the given one."""
        return [
            Lane(row["id"], row["queue"], row["name"])
            for row in await self._database.fetch(_SQL["lanes"], above)
        ]

    async def intern(self, pairs: Collection[tuple[str, str]]) -> list[Lane]:
        """Ids of (queue, task name) pairs, made where they are new."""
        ordered = sorted(pairs)
        queues, names = [queue for queue, _ in ordered], [name for _, name in ordered]
        rows = await self._database.fetch(_SQL["find_lanes"], queues, names)
        if len(rows) < len(ordered):
            async with self._database.transaction() as transaction:
                await transaction.execute(_SQL["lock_lanes"])
                await transaction.execute(_SQL["intern"], queues, names)
                await transaction.execute(_SQL["add_queues"], queues)
            rows = await self._database.fetch(_SQL["find_lanes"], queues, names)
        return [Lane(row["id"], row["queue"], row["name"]) for row in rows]

    async def limits(self) -> list[Limit]:
        """All limits."""
        rows = await self._database.fetch(_SQL["limits"])
        return [Limit(row["scope"], row["name"], row["maximum"], row["source"]) for row in rows]

    async def paused(self) -> frozenset[str]:
        """Names of paused queues."""
        return frozenset(row["name"] for row in await self._database.fetch(_SQL["paused"]))

    async def declare_limits(self, limits: Sequence[tuple[str, str, int]]) -> None:
        """Set (scope, name, maximum) as code declares them; 0 removes; an operator's word stays."""
        async with self._database.transaction() as transaction:
            await transaction.execute(_SQL["lock_lanes"])
            await transaction.execute(
                _SQL["declare_limits"],
                [scope for scope, _, _ in limits],
                [name for _, name, _ in limits],
                [maximum for _, _, maximum in limits],
            )
            await transaction.execute(_SQL["flag_lanes"])

    async def declare_tasks(self, definitions: Sequence[Definition]) -> None:
        """Keep definitions for people."""
        await self._database.execute(
            _SQL["declare_tasks"],
            [d.name for d in definitions],
            [d.queue for d in definitions],
            [d.max_retries for d in definitions],
            [d.timeout_ms for d in definitions],
            [d.priority for d in definitions],
        )

    async def add_queues(self, names: Sequence[str]) -> None:
        """Make queues known."""
        await self._database.execute(_SQL["add_queues"], list(names))
