"""Rates: how many runs may be assigned in a time, and when the next one may be.

A rate is a bucket of `burst` tokens that fills evenly (GCRA). All that is kept of it is the time at which it
is full again: in any time T at most `burst + count * T / period` runs are assigned.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final, NamedTuple

HIGHEST_COUNT: Final = 1_000_000
SHORTEST_PERIOD_MS: Final = 1_000
LONGEST_PERIOD_MS: Final = 24 * 3600 * 1_000
_DEFAULT_BURST_MS: Final = 100
_LEAST_WAIT: Final = timedelta(milliseconds=20)


@dataclass(frozen=True, slots=True)
class Rate:
    """`count` runs in each `period_ms`, of which `burst` may begin together after a rest."""

    count: int
    period_ms: int
    burst: int

    def cost(self, runs: int) -> timedelta:
        """How long it takes until there are so many tokens again; of one, rounded up to microseconds."""
        return timedelta(microseconds=runs * -(-self.period_ms * 1000 // self.count))


def default_burst(count: int, period_ms: int) -> int:
    """What a rate gives in 100 ms, at least 1: so it is reached where tokens come faster than statements."""
    return max(1, -(-count * _DEFAULT_BURST_MS // period_ms))


class DeclaredLimit(NamedTuple):
    """What code says of a limit: a maximum (0: none), a rate, both, or neither."""

    scope: str
    name: str
    maximum: int
    rate: Rate | None = None

    @property
    def binds(self) -> bool:
        """False if it says that there is no limit."""
        return self.maximum > 0 or self.rate is not None


@dataclass(frozen=True, slots=True)
class Bucket:
    """A rate as it stands at `now` by the database's clock: its bucket is full at `full_at`."""

    rate: Rate
    full_at: datetime
    now: datetime
    anew: bool = False
    """What was stored does not hold: this must be stored, though nothing is taken, for the bucket to fill."""

    @property
    def tokens(self) -> int:
        """How many runs may be assigned now."""
        spare = self.now + self.rate.cost(self.rate.burst) - self.full_at
        return max(0, spare // self.rate.cost(1))

    def after(self, runs: int) -> datetime:
        """When it is full again, after so many runs were assigned now."""
        return self.full_at + self.rate.cost(runs)

    def wait(self, taken: int) -> timedelta:
        """How long until there is a token again, after `taken` were. Where tokens come faster than statements
        should, until there are some, so that none is lost."""
        rate, full_at = self.rate, self.after(taken)
        next_one = full_at + rate.cost(1) - rate.cost(rate.burst) - self.now
        return max(next_one, min(_LEAST_WAIT, rate.cost(rate.burst)))


def bucket(rate: Rate, full_at: datetime | None, now: datetime, steady_since: datetime | None) -> Bucket:
    """A rate at a time of the database, from what is stored of it (None: it was never used).

    `steady_since`: that clock jumped then, so what the bucket held before is not known: it was empty. A time
    that is further off than an empty bucket takes to fill was written before the clock was set back, or under
    another rate: the bucket is empty now.
    """
    full = max(now, full_at or now)
    if steady_since is not None:
        full = max(full, steady_since + rate.cost(rate.burst))
    empty = now + rate.cost(rate.burst)
    return Bucket(rate, min(full, empty), now, anew=full > empty)


def rated(limits: Sequence[DeclaredLimit]) -> tuple[list[int], list[int], list[int]]:
    """Counts, periods and bursts of limits as columns; 0 where there is no rate."""
    rates = [limit.rate or Rate(0, 0, 0) for limit in limits]
    return [r.count for r in rates], [r.period_ms for r in rates], [r.burst for r in rates]
