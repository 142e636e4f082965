"""How much waits in each queue, by looks that are bounded: never a count of a whole table.

Unlike `ClusterStore.depths`, which counts in the first 1,000 queues by name, and what runs too, this skips
from one thing that waits to the next: alerts must not miss a queue because many have names before its own.
"""

from dataclasses import dataclass
from typing import Final

from hyrex_broker.storage.pool import Database
from hyrex_broker.storage.settings import ONLY_PROBES
from hyrex_broker.storage.statements import load

_SQL: Final = load("depths")
MOST_OF_ONE: Final = 10_000
"""No more than that is counted of one task's waiting runs at one priority,"""
_MOST_PAIRS: Final = 5_000
_MOST_IN_ALL: Final = 1_000_000
"""nor more than that in all."""


@dataclass(frozen=True, slots=True)
class WaitingTasks:
    """What waits in one queue. Counts are at least as high as shown where they reach a cap."""

    ready: int = 0
    delayed: int = 0
    blocked: int = 0
    oldest_ready_s: float = 0.0


class DepthStore:
    """Statements of `depths.sql`. Raises StorageUnavailable."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def of_queue(self, queue: str, most: int) -> int:
        """How many wait in one queue, ready, delayed or blocked: the exact number below `most`, else at
        least that."""
        async with self._database.transaction(read=True) as transaction:
            await transaction.set_local(ONLY_PROBES)
            row = await transaction.fetchrow(_SQL["of_queue"], queue, most)
        assert row is not None
        count: int = row[0]
        return count

    async def read(self) -> dict[str, WaitingTasks]:
        """Every queue in which something waits."""
        bounds = _MOST_PAIRS, _MOST_IN_ALL, MOST_OF_ONE
        ready = {row[0]: (row[1], row[2]) for row in await self._database.fetch(_SQL["ready"], *bounds)}
        delayed, blocked = [
            {row[0]: row[1] for row in await self._database.fetch(_SQL[name], *bounds)}
            for name in ("delayed", "blocked")
        ]
        return {
            queue: WaitingTasks(count, delayed.get(queue, 0), blocked.get(queue, 0), oldest_s)
            for queue in ready.keys() | delayed.keys() | blocked.keys()
            for count, oldest_s in (ready.get(queue, (0, 0.0)),)
        }
