"""How many runs limits leave to the lanes of an assign: what is left under maxima, and the tokens of rates.

All is called in the transaction that holds the limits' locks, each look in a statement of its own, since the
locking statement does not see what was committed while it waited (rules 13, 32).
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final, TypeAlias

from hyrex_broker.domain.rates import Bucket, Rate, bucket
from hyrex_broker.storage.lanes import rate_of
from hyrex_broker.storage.pool import Transaction
from hyrex_broker.storage.statements import load

_SQL: Final = load("assign")

LimitKey: TypeAlias = tuple[str, str]
"""(scope, name)"""
Clock: TypeAlias = Callable[[datetime], datetime | None]
"""Tells by a time of the database since when its clock has been steady; None: always, as far as is known."""


@dataclass(slots=True)
class Room:
    """What is left under some locked limits."""

    left: dict[LimitKey, int] = field(default_factory=dict)
    """How many more runs each maximum leaves."""
    buckets: dict[LimitKey, Bucket] = field(default_factory=dict)
    _uses: dict[LimitKey, int | None] = field(default_factory=dict)

    def take(self, limits: Sequence[LimitKey], wanted: int) -> int:
        """Take up to so many runs of a lane with these limits. A limit that is gone does not bind."""
        mine = [limit for limit in limits if limit in self.left]
        count = min([wanted, *(max(self.left[limit], 0) for limit in mine)])
        for limit in mine:
            self.left[limit] -= count
        return count

    def waits(self, limits: Sequence[LimitKey], taken: Mapping[LimitKey, int]) -> timedelta | None:
        """How long until the rates of a lane give a run again, after so many were taken; None: they do now,
        or it has none."""
        waits = [
            self.buckets[limit].wait(taken.get(limit, 0))
            for limit in limits
            if limit in self.buckets and self.buckets[limit].tokens <= taken.get(limit, 0)
        ]
        return max(waits, default=None)

    async def store(self, transaction: Transaction, taken: Mapping[LimitKey, int]) -> None:
        """Store the use of rates."""
        used = sorted(limit for limit, found in self.buckets.items() if taken.get(limit) or found.anew)
        if used:
            await transaction.execute(
                _SQL["use_rates"],
                [scope for scope, _ in used],
                [name for _, name in used],
                [self.buckets[limit].after(taken.get(limit, 0)) for limit in used],
                [self._uses[limit] for limit in used],
            )


async def lock(transaction: Transaction, limits: Sequence[LimitKey], clock: Clock) -> Room:
    """Lock limits in key order, and look at what is left."""
    rows = await transaction.fetch(_SQL["lock_limits"], [w[0] for w in limits], [w[1] for w in limits])
    maxima = {(row["scope"], row["name"]): row["maximum"] for row in rows if row["maximum"] is not None}
    rates = {(row["scope"], row["name"]): rate for row in rows if (rate := rate_of(row)) is not None}
    room = Room()
    if maxima:
        await _count(transaction, maxima, room)
    if rates:
        await _look_at_rates(transaction, rates, room, clock)
    return room


async def _count(transaction: Transaction, maxima: Mapping[LimitKey, int], room: Room) -> None:
    rows = await transaction.fetch(
        _SQL["count_leases"], [scope for scope, _ in maxima], [name for _, name in maxima]
    )
    for row in rows:
        key = (row["scope"], row["name"])
        room.left[key] = maxima[key] - row["held"]


async def _look_at_rates(
    transaction: Transaction, rates: Mapping[LimitKey, Rate], room: Room, clock: Clock
) -> None:
    rows = await transaction.fetch(
        _SQL["rate_uses"], [scope for scope, _ in rates], [name for _, name in rates]
    )
    for row in rows:
        key = (row["scope"], row["name"])
        found = bucket(rates[key], row["full_at"], row["at"], clock(row["at"]))
        room.buckets[key] = found
        room.left[key] = min(room.left.get(key, found.tokens), found.tokens)
        room._uses[key] = row["id"]
