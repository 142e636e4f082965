"""Lanes, limits and pauses, which the broker must know to plan an assign."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

import asyncpg

from hyrex_broker.domain.model import LaneId
from hyrex_broker.domain.rates import DeclaredLimit, Rate, rated
from hyrex_broker.domain.selection import like
from hyrex_broker.storage.pool import Database, Transaction
from hyrex_broker.storage.statements import load

_SQL: Final = load("lanes")
RENEWED_BELOW_S: Final = 86_400.0
"""A lane that may be used for less is renewed when it is interned, for two days: at most a write a day."""


class LaneKey(NamedTuple):
    """What a lane is interned by."""

    queue: str
    name: str
    followed: bool = False
    bucket: int = 0


LaneName = LaneKey | tuple[str, str]
"""A lane; of a queue and a task name alone the plain one, where tasks without further options go."""


@dataclass(frozen=True, slots=True)
class Lane:
    """An interned (queue, task name)."""

    lane_id: LaneId
    queue: str
    name: str
    is_new: bool = False
    """Made just now."""
    followed: bool = False
    """Something waits for the ends of its tasks."""
    bucket: int = 0
    """Which share of a fairly shared lane it is."""
    usable_s: float = 0.0
    """For how long tasks may be stored in it, by the database's clock; interning it again prolongs that."""

    @property
    def key(self) -> LaneKey:
        """What it is interned by."""
        return LaneKey(self.queue, self.name, self.followed, self.bucket)


@dataclass(frozen=True, slots=True)
class Limit:
    """A maximum of leases at once, a rate of assigns, or both. `scope` is "queue" or "task", `source` is
    "code" or "operator"."""

    scope: str
    name: str
    maximum: int | None
    source: str
    rate: Rate | None = None

    def is_as(self, declared: DeclaredLimit) -> bool:
        """True if code that declares it so changes nothing."""
        return (self.maximum or 0, self.rate) == (declared.maximum, declared.rate)


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

    async def lanes(self, ids: Collection[LaneId]) -> list[Lane]:
        """The lanes with these ids."""
        return [_lane(row) for row in await self._database.fetch(_SQL["lanes"], list(ids))]

    async def intern(self, names: Collection[LaneName], most_new: int) -> list[Lane]:
        """Lanes, made where they are new, in which tasks may be stored for a day or longer.

        What is missing from the result would have been more than `most_new`.
        """
        keys = {LaneKey(*name) for name in names}
        wanted = _columns(keys)
        made: list[asyncpg.Record] = []
        rows = await self._database.fetch(_SQL["find_lanes"], *wanted)
        missing = keys - {_lane(row).key for row in rows if row["usable_s"] > RENEWED_BELOW_S}
        if missing:
            async with self._database.transaction() as transaction:
                await transaction.execute(_SQL["lock_lanes"])
                made = await transaction.fetch(_SQL["intern"], *_columns(missing), most_new)
                # What was removed before the lock was had is made by now: so they are looked for again.
                found = await transaction.fetch(_SQL["find_lanes"], *_columns(missing))
                await transaction.execute(_SQL["renew"], sorted(row["id"] for row in found))
                await transaction.execute(_SQL["add_queues"], [row["queue"] for row in found])
            rows = await self._database.fetch(_SQL["find_lanes"], *wanted)
        new = {row["id"] for row in made}
        return [_lane(row, is_new=row["id"] in new) for row in rows]

    async def gone(self, ids: Collection[LaneId]) -> list[LaneId]:
        """Those of these lanes that are stored no longer."""
        return [row[0] for row in await self._database.fetch(_SQL["gone"], list(ids), read=True)]

    async def tasks_elsewhere(self, names: Collection[str], patterns: Collection[str]) -> frozenset[str]:
        """Those of these task names that some queue has which none of the patterns matches."""
        rows = await self._database.fetch(_SQL["tasks_elsewhere"], sorted(names), [*map(like, patterns)])
        return frozenset(row[0] for row in rows)

    async def limits(self) -> list[Limit]:
        """All limits."""
        rows = await self._database.fetch(_SQL["limits"])
        return [Limit(row["scope"], row["name"], row["maximum"], row["source"], rate_of(row)) for row in rows]

    async def steered(self) -> tuple[frozenset[str], dict[str, int]]:
        """Names of paused queues, and the most that may wait in those that have a maximum."""
        rows = await self._database.fetch(_SQL["steered"])
        most = {row["name"]: row["max_waiting"] for row in rows if row["max_waiting"] is not None}
        return frozenset(row["name"] for row in rows if row["paused"]), most

    async def declare_limits(self, limits: Sequence[DeclaredLimit]) -> None:
        """Set limits as code declares them; what does not bind is removed. Limits of operators stay."""
        async with self._database.transaction() as transaction:
            await transaction.execute(_SQL["lock_lanes"])
            await transaction.execute(
                _SQL["declare_limits"],
                *([limit[place] for limit in limits] for place in range(3)),
                *rated(limits),
            )
            await flag_lanes(transaction, [(limit.scope, limit.name) for limit in limits])

    async def unsettled_limits(self) -> list[DeclaredLimit]:
        """What the live sessions declare of limits that are otherwise."""
        rows = await self._database.fetch(_SQL["unsettled_limits"], read=True)
        return [
            DeclaredLimit(
                row["scope"],
                row["name"],
                row["maximum"],
                row["count"] and Rate(row["count"], row["period_ms"], row["burst"]),
            )
            for row in rows
        ]

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

    async def unknown_queues(self, names: Sequence[str]) -> list[str]:
        """Those that are no queue's name yet."""
        return [row[0] for row in await self._database.fetch(_SQL["unknown_queues"], list(names))]


def _lane(row: asyncpg.Record, *, is_new: bool = False) -> Lane:
    return Lane(row["id"], row["queue"], row["name"], is_new, row["followed"], row["bucket"], row["usable_s"])


def _columns(keys: Collection[LaneKey]) -> tuple[list[Any], ...]:
    return tuple(list(column) for column in zip(*sorted(keys), strict=True)) or ([], [], [], [])


def rate_of(row: asyncpg.Record) -> Rate | None:
    """The rate in a row of `concurrency_limit`."""
    if row["rate_count"] is None:
        return None
    return Rate(row["rate_count"], row["rate_period_ms"], row["rate_burst"])


async def flag_lanes(transaction: Transaction, limits: Sequence[tuple[str, str]]) -> None:
    """Make the lanes of some limits (scope, name) know that these were written. Call under `lock_lanes`."""
    of_queues = [name for scope, name in limits if scope == "queue"]
    of_tasks = [name for scope, name in limits if scope == "task"]
    await transaction.execute(_SQL["flag_lanes"], of_queues, of_tasks)
