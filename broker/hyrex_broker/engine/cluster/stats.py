"""Writes what this broker counted, every 10 s, and does for all brokers what one of them must do: looks at
how much waits, and adds up what is old to larger steps."""

import asyncio
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, TypeVar

from hyrex.runtime.histogram import Histogram
from hyrex_broker.domain.counters import OTHER, Counters
from hyrex_broker.domain.errors import StorageUnavailable
from hyrex_broker.domain.model import BrokerId, LaneId, Outcome
from hyrex_broker.storage.sqlstates import StatementRefused
from hyrex_broker.storage.stats import ALL, FINE, Counted, StatStore

log = logging.getLogger(__name__)

Key = TypeVar("Key")

EVERY_S: Final = FINE.total_seconds()
_ROLLED_UP_EVERY: Final = 6
MOST_QUEUES: Final = 500
"""So many queues, the busiest, have a row of their own in a step."""
_NAMES: Final = {
    Outcome.COMPLETED: "completed",
    Outcome.FAILED: "failed",
    Outcome.TIMED_OUT: "timed_out",
    Outcome.CANCELLED: "cancelled",
    Outcome.LOST: "lost",
}


@dataclass(slots=True)
class _Totals:
    """The counters at one moment."""

    submitted: dict[LaneId, int] = field(default_factory=dict)
    ended: dict[tuple[LaneId, Outcome], int] = field(default_factory=dict)
    runs: dict[tuple[LaneId, Outcome], int] = field(default_factory=dict)
    waits: dict[LaneId, list[int]] = field(default_factory=dict)
    run_times: dict[LaneId, list[int]] = field(default_factory=dict)
    run_us: dict[LaneId, int] = field(default_factory=dict)


class CountedSteps:
    """What has been counted since the last step, by queue. Costs nothing between the steps."""

    def __init__(self, counters: Counters, names: Mapping[LaneId, tuple[str, str]]) -> None:
        self._counters = counters
        self._names = names
        self._before = _Totals()
        self._now = _Totals()

    def step(self) -> dict[str, Counted]:
        """By queue; ALL for all together, with what is of no known queue. Ends with `settle`."""
        self._now = now = self._totals()
        found: dict[str, Counted] = {ALL: Counted(ALL)}
        for lane, count in _grown(self._before.submitted, now.submitted):
            for row in self._rows(found, lane):
                row.submitted += count
        for (lane, outcome), count in _grown(self._before.ended, now.ended):
            for row in self._rows(found, lane):
                setattr(row, _NAMES[outcome], getattr(row, _NAMES[outcome]) + count)
        for (lane, _), count in _grown(self._before.runs, now.runs):
            for row in self._rows(found, lane):
                row.runs += count
        for lane, count in _grown(self._before.run_us, now.run_us):
            for row in self._rows(found, lane):
                row.run_us += count
        self._add_buckets(found)
        return found

    def settle(self) -> None:
        """The last step is told for good; else the next one tells of it again."""
        self._before = self._now

    def _add_buckets(self, found: dict[str, Counted]) -> None:
        for name in ("waits", "run_times"):
            before, now = getattr(self._before, name), getattr(self._now, name)
            for lane, counts in now.items():
                old = before.get(lane) or [0] * len(counts)
                if counts != old:
                    new = [count - past for count, past in zip(counts, old, strict=True)]
                    for row in self._rows(found, lane):
                        setattr(row, name, _sum(getattr(row, name), new))

    def _rows(self, found: dict[str, Counted], lane: LaneId) -> Sequence[Counted]:
        known = self._names.get(lane)
        if known is None or lane == OTHER:
            return (found[ALL],)
        queue = known[0]
        if queue not in found:
            found[queue] = Counted(queue)
        return found[ALL], found[queue]

    def _totals(self) -> _Totals:
        counters = self._counters
        return _Totals(
            dict(counters.submitted),
            {key: count for key, count in counters.ended.items() if key[1] in _NAMES},
            dict(counters.runs),
            _buckets(counters.queue_wait),
            _buckets(counters.run_time),
            {lane: histogram.total for lane, histogram in counters.run_time.items()},
        )


class Stats:
    """Every 10 s one row for each busy queue, in one statement."""

    def __init__(self, store: StatStore, broker: BrokerId, steps: CountedSteps) -> None:
        self._store = store
        self._broker = broker
        self._steps = steps

    async def run(self) -> None:
        """Write until cancelled. What a database that is away misses, the next step tells."""
        rounds = 0
        while True:
            await asyncio.sleep(EVERY_S)
            rounds += 1
            try:
                await self.write(rolls_up=rounds % _ROLLED_UP_EVERY == 0)
            except (StorageUnavailable, StatementRefused) as error:
                log.debug("statistics are written with the next step", extra={"error": str(error)})

    async def write(self, *, rolls_up: bool) -> None:
        """One step. Raises StorageUnavailable, StatementRefused."""
        found = self._steps.step()
        total = found.pop(ALL)
        if total != Counted(ALL):
            busiest = sorted(found.values(), key=_business, reverse=True)[:MOST_QUEUES]
            await self._store.write(self._broker, [total, *busiest])
        self._steps.settle()
        await self._store.look_at_depths(self._broker)
        if rolls_up:
            await self._store.roll_up()


def _business(row: Counted) -> int:
    return row.submitted + row.runs + row.completed + row.failed + row.cancelled


def _grown(before: Mapping[Key, int], now: Mapping[Key, int]) -> list[tuple[Key, int]]:
    return [(key, count - before.get(key, 0)) for key, count in now.items() if count != before.get(key, 0)]


def _buckets(found: Mapping[LaneId, Histogram]) -> dict[LaneId, list[int]]:
    return {lane: list(histogram.counts) for lane, histogram in found.items()}


def _sum(first: list[int], second: list[int]) -> list[int]:
    return [one + other for one, other in zip(first, second, strict=True)] if first else second
