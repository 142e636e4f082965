"""Compacts days past their term: what is kept of a day is copied, and takes the place of the day's tables.

So one task that sleeps for a month does not keep the day on which it was sent (rule 36). The copy is made in
portions beside all work; the swap is one transaction that has both parents locked for milliseconds, or gives
way and is tried again. Whatever interrupts it, the day is as it was, or compacted. Why:
docs/adr/0022-compaction.md.
"""

import asyncio
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final
from uuid import UUID

import asyncpg

from hyrex_broker.domain.retention import RetentionTerms
from hyrex_broker.storage import partitions
from hyrex_broker.storage.statements import load

log = logging.getLogger(__name__)

PORTION: Final = 20_000
_SQL: Final = load("compaction")
_DAY: Final = timedelta(days=1)
_TRIES: Final = 5
_PAUSE_S: Final = 0.5
_WORTHWHILE: Final = 0.1
"""What share of a day's tasks must be past its term, for the rest to be copied."""
_SELDOM: Final = 0.1
"""Where fewer are past their queue's term, a day is copied again after this share of its age."""
_SWAP_LIMIT: Final = "2s"
_MOST_LIVING: Final = 100_000
"""The swap compares what lives of a day with what lived before, while everybody waits: 0.3 s for so many."""


@dataclass(frozen=True, slots=True)
class _Day:
    """One look at a day: `roots` are those of trees that live."""

    start: datetime
    keeps_finished: bool
    keeps_bad_ends: bool
    age: timedelta
    """For how long it has been over: by it queues' own terms are judged."""
    roots: list[UUID]

    def portion(self, after: UUID) -> tuple[object, ...]:
        """What `survivors` is asked."""
        terms = (self.keeps_finished, self.keeps_bad_ends, self.age)
        return (self.start.date(), after, PORTION, *terms, self.roots)


@dataclass(frozen=True, slots=True)
class _Counts:
    """How many tasks a day has, how many are kept, and how many go by their queue's term alone."""

    seen: int
    kept: int
    own: int

    @property
    def many_go(self) -> bool:
        """True if the rest is worth a copy."""
        return self.seen > 0 and self.seen - self.kept >= self.seen * _WORTHWHILE


class Compactor:
    """One round of retention on one connection, which has excluded other brokers."""

    def __init__(self, connection: Any, terms: RetentionTerms) -> None:
        self._connection = connection
        self._terms = terms
        self._roots: list[UUID] | None = None
        self._without_finished: frozenset[datetime] = frozenset()
        """Days past the brokers' term of what ended well."""
        self._without_bad_ends: frozenset[datetime] = frozenset()
        """Days past their term of bad ends as well."""

    async def maintain(self) -> None:
        """Drop days of which nothing is kept, compact those of which little is.

        Raises LockNotAvailableError where others hold the locks for too long: the next round goes on.
        """
        await self._connection.execute(_SQL["abandon"])
        for day in await partitions.interrupted(self._connection, self._terms.finished):
            await partitions.drop(self._connection, day)
        self._without_finished = frozenset(await partitions.past(self._connection, self._terms.finished))
        self._without_bad_ends = frozenset(await partitions.past(self._connection, self._terms.bad_ends))
        looked_at = {row["day"] for row in await self._connection.fetch(_SQL["looked_at"])}
        for day in await partitions.past(self._connection, await self._shortest_term()):
            if day.date() not in looked_at or await self._is_over(day):
                await self._look_at(day)
        await self._connection.execute(_SQL["forget"])

    async def _shortest_term(self) -> timedelta:
        """The brokers' term, or that of the queue which keeps its tasks for the shortest time."""
        days = await self._connection.fetchval(_SQL["shortest_term"])
        return self._terms.finished if days is None else min(self._terms.finished, days * _DAY)

    async def _is_over(self, day: datetime) -> bool:
        """Return True if nothing of a day lives or is kept for its bad end."""
        return day in self._without_bad_ends and not await partitions.lives(self._connection, day)

    async def _look_at(self, start: datetime) -> None:
        day = _Day(
            start,
            start not in self._without_finished,
            start not in self._without_bad_ends,
            await partitions.age(self._connection, start),
            await self._living_roots(),
        )
        counts = await self._count(day)
        copied = False
        if counts.many_go or (counts.own and await self._is_due(day)):
            told = {"day": f"{start:%Y-%m-%d}", "tasks": counts.seen, "kept": counts.kept}
            copied = await self._compact(day, told)
        # After the swap: until then any of its tasks may come to life. And at each look: a broker may have
        # been killed after its swap.
        for name in ("forget_keys", "forget_debounce_keys", "forget_reopenings", "forget_dismissals"):
            await partitions.forget(self._connection, _SQL[name], start)
        # Only a day without tasks is dropped: none of them can come to life meanwhile. Within the brokers'
        # term tasks may still be stored in it.
        if not day.keeps_finished and not await partitions.holds_any(self._connection, start):
            await partitions.drop(self._connection, start)
        await self._connection.execute(_SQL["note"], start.date(), copied)

    async def _is_due(self, day: _Day) -> bool:
        """Return True if few tasks, past the term of their queue, have waited long enough for a copy."""
        pause = max(_DAY, day.age * _SELDOM)
        return bool(await self._connection.fetchval(_SQL["is_due"], day.start.date(), pause))

    async def _compact(self, day: _Day, told: Mapping[str, object]) -> bool:
        """Compact a day, or leave it to the next look where its swap would have others wait for too long."""
        upper = partitions.lower_bound(day.start + _DAY)
        lower = partitions.lower_bound(day.start)
        if await self._connection.fetchval(_SQL["living"], lower, upper, _MOST_LIVING + 1) > _MOST_LIVING:
            log.info("partition not compacted: too many of its tasks live", extra=told)
            return False
        try:
            moved = await compact(self._connection, day)
        except asyncpg.QueryCanceledError:
            log.warning("partition not compacted: its swap took too long", extra=told)
            return False
        log.info("partition compacted", extra={**told, "moved": moved})
        return True

    async def _count(self, day: _Day) -> _Counts:
        seen = kept = own = 0
        after: UUID | None = _before(day.start)
        while after is not None:
            row = await self._connection.fetchrow(_SQL["look"], *day.portion(after))
            seen, kept, own = seen + row["seen"], kept + row["kept"], own + row["own"]
            after = row["last"]
        return _Counts(seen, kept, own)

    async def _living_roots(self) -> list[UUID]:
        """Roots of tasks that live, read once a round: their trees are kept."""
        if self._roots is None:
            roots: set[UUID] = set()
            after: UUID | None = UUID(int=0)
            while after is not None:
                row = await self._connection.fetchrow(_SQL["living_roots"], after, PORTION)
                roots.update(row["roots"])
                after = row["last"]
            self._roots = sorted(roots)
        return self._roots


async def compact(connection: Any, day: _Day) -> int:
    """Compact one day; return how many of its tasks moved meanwhile.

    Raises LockNotAvailableError where the locks were not had: what was copied is removed at the next round.
    """
    await connection.execute(_SQL["begin"], day.start.date())
    after: UUID | None = _before(day.start)
    while after is not None:
        after = await connection.fetchval(_SQL["copy"], *day.portion(after))
    return await _swapped(connection, day)


async def _swapped(connection: Any, day: _Day) -> int:
    for _ in range(_TRIES - 1):
        try:
            return await _swap(connection, day)
        except asyncpg.LockNotAvailableError:
            await asyncio.sleep(_PAUSE_S)
    return await _swap(connection, day)


async def _swap(connection: Any, day: _Day) -> int:
    async with connection.transaction():
        # Everybody waits for it, so it may not take long.
        await connection.execute(f"set local statement_timeout = '{_SWAP_LIMIT}'")
        return int(await connection.fetchval(_SQL["swap"], day.start.date()))


def _before(day: datetime) -> UUID:
    """The id before the first of a day."""
    return UUID(int=partitions.lower_bound(day).int - 1)
