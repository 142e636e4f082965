"""Queues for operators: what is in them, their limits and pauses, and purging."""

from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Final

from hyrex.runtime import patterns
from hyrex_broker.domain.long_work import in_portions
from hyrex_broker.domain.rates import Rate
from hyrex_broker.domain.views import QueueView
from hyrex_broker.storage.lanes import flag_lanes, rate_of
from hyrex_broker.storage.pool import Database, Transaction
from hyrex_broker.storage.purge import Purge, Purged
from hyrex_broker.storage.settings import ONLY_PROBES
from hyrex_broker.storage.statements import load

_SQL: Final = load("queues")
_LANES: Final = load("lanes")
COUNT_CAP: Final = 10_000


@dataclass(frozen=True, slots=True)
class LimitChange:
    """What an operator changes of a queue's limit; what is None stays. A maximum of 0, and `changes_rate`
    without a rate, removes that part."""

    maximum: int | None = None
    changes_rate: bool = False
    rate: Rate | None = None

    @property
    def is_none(self) -> bool:
        """True if nothing changes."""
        return self.maximum is None and not self.changes_rate


UNCHANGED: Final = LimitChange()


@dataclass(frozen=True, slots=True)
class QueueChange:
    """What an operator changes of a queue; what is None stays. A maximum or days of 0 remove that setting."""

    paused: bool | None = None
    limit: LimitChange = UNCHANGED
    max_waiting: int | None = None
    retention_days: int | None = None
    dead_letter_days: int | None = None


class QueueStore:
    """Statements of `queues.sql`. Each method raises StorageUnavailable."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def page(
        self, after: str, size: int, cap: int | None = None, sees: Callable[[str], bool] | None = None
    ) -> list[QueueView]:
        """Up to `size` queues with names above `after`, by name; what waits is counted up to `cap`. With
        `sees`, only those that it is true of."""
        if sees is None:
            return await self._views(after, None, size, cap)
        rows = await self._database.fetch(_SQL["names"], after, read=True)
        seen = [row["name"] async for row in in_portions(rows) if sees(row["name"])]
        return await self._views(after, seen[:size], size, cap) if seen else []

    async def find(self, name: str) -> QueueView | None:
        """One queue."""
        found = await self._views("", [name], 1)
        return found[0] if found else None

    async def update(self, name: str, change: QueueChange) -> None:
        """Change a queue, which is made where there is none.

        Under the lock of the lanes, so that no lane is made at the same time that misses its limit.
        """
        async with self._database.transaction() as transaction:
            await transaction.execute(_LANES["lock_lanes"])
            terms = (change.retention_days, change.dead_letter_days)
            await transaction.execute(_SQL["put"], name, change.paused, change.max_waiting, *terms)
            if not change.limit.is_none:
                await _set_limit(transaction, name, change.limit)
                await flag_lanes(transaction, [("queue", name)])

    async def delete(self, name: str) -> bool:
        """Remove a queue that has no lane, with its limit; False where there is no such queue."""
        async with self._database.transaction() as transaction:
            await transaction.execute(_LANES["lock_lanes"])
            return await transaction.fetchrow(_SQL["delete"], name) is not None

    async def now(self) -> datetime:
        """The database's time."""
        row = await self._database.fetchrow(_SQL["now"], read=True)
        assert row is not None
        moment: datetime = row[0]
        return moment

    async def purge(self, name: str, reason: str, until: datetime) -> AsyncIterator[Purged]:
        """Cancel what waits in a queue and arrived until a time, chunk by chunk, each committed."""
        lanes = {
            row["id"]: row["followed"] for row in await self._database.fetch(_SQL["lanes_of_queue"], name)
        }
        async for chunk in Purge(self._database, reason, until).run(lanes):
            yield chunk

    async def _views(
        self, after: str, names: list[str] | None, size: int, most: int | None = None
    ) -> list[QueueView]:
        cap = most or COUNT_CAP
        async with self._database.transaction(read=True) as transaction:
            await transaction.set_local(ONLY_PROBES)
            rows = await transaction.fetch(_SQL["queues"], after, names, size, cap)
            sessions = await transaction.fetch(_SQL["patterns"])
        workers = [0] * len(rows)
        async for session in in_portions(sessions, 1):
            serves = patterns.known(tuple(session["queue_patterns"]))
            async for place, row in in_portions(enumerate(rows), 1):
                if serves(row["name"]):
                    workers[place] += session["sessions"]
        return [replace(_view(row, cap), workers=count) for row, count in zip(rows, workers, strict=True)]


async def _set_limit(transaction: Transaction, name: str, change: LimitChange) -> None:
    row = await transaction.fetchrow(_SQL["limit_of"], name)
    maximum = None if row is None else row["maximum"]
    if change.maximum is not None:
        maximum = change.maximum or None
    rate = change.rate if change.changes_rate else None if row is None else rate_of(row)
    if maximum is None and rate is None:
        await transaction.execute(_SQL["unlimit"], name)
        return
    parts = (None, None, None) if rate is None else (rate.count, rate.period_ms, rate.burst)
    await transaction.execute(_SQL["limit"], name, maximum, *parts)


def _view(row: Any, cap: int) -> QueueView:
    return QueueView(
        name=row["name"],
        paused=row["paused"],
        concurrency_limit=row["concurrency_limit"],
        queued=min(row["queued"], cap),
        queued_capped=row["queued"] > cap,
        delayed=row["delayed"],
        blocked=row["blocked"],
        running=row["running"],
        max_waiting=row["max_waiting"],
        retention_days=row["retention_days"],
        dead_letter_days=row["dead_letter_days"],
        rate=rate_of(row),
        next_token_at=row["next_token_at"],
    )
