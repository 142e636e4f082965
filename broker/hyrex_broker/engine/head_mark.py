"""The low-water mark of a table that is read in the order of its times (rule 31)."""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Final

from hyrex_broker.domain.errors import StorageUnavailable
from hyrex_broker.engine.looks import Look
from hyrex_broker.storage.marks import HEADS, Mark, MarkStore
from hyrex_broker.storage.settings import LONGEST_STATEMENT

log = logging.getLogger(__name__)

_ZERO: Final = datetime(1970, 1, 1, tzinfo=UTC)
LOOK_BELOW_S: Final = 5.0
SAVE_EVERY_S: Final = 10.0


class HeadMark:
    """Where a table is read from; kept for brokers that begin later, lowered to rows that were left below."""

    def __init__(self, number: int, marks: MarkStore) -> None:
        """`number`: of the head among the stored marks."""
        self.at = _ZERO
        self._number = number
        self._marks = marks
        self._is_new = False
        self._save_at = 0.0

    async def load(self) -> None:
        """Begin where an earlier broker was."""
        try:
            for mark in await self._marks.load(heads=True):
                if mark.rank == self._number:
                    self.at = max(self.at, mark.at)
        except StorageUnavailable:
            log.debug("a head is read without its mark", extra={"head": self._number})

    def nothing_due(self, now: datetime) -> None:
        """Nothing was due at that time of the database: a row is never inserted as due before the time at
        which its statement began (rule 11)."""
        self.at = max(self.at, now - LONGEST_STATEMENT)

    def keep(self) -> None:
        """Have it stored with the next `save`: rows were moved on below it."""
        self._is_new = True

    def moved(self, last: datetime, now: datetime) -> None:
        """Rows up to `last` were moved on."""
        self._is_new = True
        self.at = min(last, now - LONGEST_STATEMENT)

    async def save(self) -> None:
        """Keep it for later brokers, now and then. Raises StorageUnavailable."""
        if self._is_new and time.monotonic() >= self._save_at:
            self._save_at = time.monotonic() + SAVE_EVERY_S
            await self._marks.save([Mark(HEADS, self._number, self.at)])
            self._is_new = False

    async def lower(self, below: Callable[[datetime], Awaitable[datetime | None]]) -> bool:
        """Go back to the first row below it; True if there is one. Raises StorageUnavailable."""
        left = await below(self.at)
        if left is None:
            return False
        self.at = min(self.at, left)
        return True


async def look_below(find: Callable[[], Awaitable[None]]) -> None:
    """Look for rows below a mark until cancelled: apart from other work, since that may take very long while
    some transaction is held open."""
    look = Look(LOOK_BELOW_S, find)
    while True:
        await asyncio.sleep(LOOK_BELOW_S / 2)
        try:
            await look.again()
        except StorageUnavailable as error:
            log.debug("could not look below a mark", extra={"error": str(error)})
