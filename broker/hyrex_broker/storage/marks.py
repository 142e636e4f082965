"""Stored low-water marks, from which the live tables are read after a restart of a broker."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from hyrex_broker.domain.model import LaneId
from hyrex_broker.storage.pool import Database
from hyrex_broker.storage.statements import load

_SQL: Final = load("marks")
HEADS: Final = LaneId(0)
"""Stands for the heads of tables that are read in order of a time, by number. Lanes are numbered from 1."""
DELAYED_HEAD: Final = 0
EXPIRY_HEAD: Final = 1
SCHEDULE_HEAD: Final = 2
FOLLOWED_HEAD: Final = 3
_MOST_ROWS: Final = 1000


@dataclass(frozen=True, slots=True)
class Mark:
    """A low-water mark: nothing was below it when it was read. Rows that a failed statement left are
    searched."""

    lane: LaneId
    rank: int
    at: datetime


class MarkStore:
    """Statements of `marks.sql`. Each method raises StorageUnavailable."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def load(self, *, heads: bool) -> list[Mark]:
        """The marks of heads, or those of `ready`; none is nearer to the present than 3 s."""
        rows = await self._database.fetch(_SQL["load_marks"], heads)
        return [Mark(LaneId(row["lane"]), row["rank"], row["mark"]) for row in rows]

    async def save(self, marks: Sequence[Mark]) -> None:
        """Keep marks; of two brokers' marks the higher one."""
        ordered = sorted(marks, key=lambda mark: (mark.lane, mark.rank))
        for start in range(0, len(ordered), _MOST_ROWS):
            part = ordered[start : start + _MOST_ROWS]
            await self._database.execute(
                _SQL["save_marks"],
                [mark.lane for mark in part],
                [mark.rank for mark in part],
                [mark.at for mark in part],
            )

    async def lower(self, mark: Mark) -> None:
        """Replace a higher mark by this one: the clock was set back since that was stored."""
        await self._database.execute(_SQL["lower_mark"], mark.lane, mark.rank, mark.at)
