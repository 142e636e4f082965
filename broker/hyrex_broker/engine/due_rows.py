"""Reads a table in the order of its times, and acts on the rows that are due by the database's clock.

It is read from a low-water mark on (rule 11). Rows below it, left there by a statement that failed, are
looked for by an asyncio task of its own, since that may take very long while some transaction is held open.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final, Protocol

from hyrex_broker.domain.errors import StorageUnavailable
from hyrex_broker.engine.looks import Look
from hyrex_broker.storage.marks import HEADS, Mark, MarkStore
from hyrex_broker.storage.promote import NextDue
from hyrex_broker.storage.settings import LONGEST_STATEMENT

log = logging.getLogger(__name__)

_ZERO: Final = datetime(1970, 1, 1, tzinfo=UTC)
_SHORTEST_WAIT_S: Final = 0.005
LOOK_BELOW_S: Final = 5.0
SAVE_EVERY_S: Final = 10.0


class DueTimes(Protocol):
    """Tells which rows of the table are due."""

    async def next_due(self, mark: datetime) -> NextDue:
        """When the next row at or above a mark is due."""
        ...

    async def below(self, mark: datetime) -> datetime | None:
        """The time of the first row below a mark."""
        ...


@dataclass(frozen=True, slots=True)
class Head:
    """Which table it is: its name in logs, its number among the stored marks, and how long to sleep at most
    while nothing is due."""

    name: str
    number: int
    longest_wait_s: float


class DueRows:
    """Acts on due rows until cancelled; sleeps until the next one is due."""

    def __init__(
        self,
        head: Head,
        times: DueTimes,
        marks: MarkStore,
        act: Callable[[datetime], Awaitable[datetime | None]],
    ) -> None:
        """`act` moves rows from a mark on, and returns the last time that it has moved; None: it moved
        nothing, since another broker has locked them."""
        self._head = head
        self._times = times
        self._marks = marks
        self._act = act
        self._expected = asyncio.Event()
        self._mark = _ZERO
        self._has_moved = False
        self._save_at = 0.0

    def expect(self) -> None:
        """Look again at what is due next: a row was inserted here."""
        self._expected.set()

    async def run(self) -> None:
        """Act until cancelled."""
        await self._load_mark()
        async with asyncio.TaskGroup() as group:
            group.create_task(self._act_when_due())
            group.create_task(self.look_below())

    async def _load_mark(self) -> None:
        try:
            for mark in await self._marks.load(heads=True):
                if mark.rank == self._head.number:
                    self._mark = max(self._mark, mark.at)
        except StorageUnavailable:
            log.debug("a head is read without its mark", extra={"head": self._head.name})

    async def _act_when_due(self) -> None:
        while True:
            try:
                wait_s = await self._act_on_due()
                await self._save_mark()
            except StorageUnavailable:
                log.debug("due rows wait for the database", extra={"head": self._head.name})
                wait_s = self._head.longest_wait_s
            try:
                async with asyncio.timeout(wait_s):
                    await self._expected.wait()
                self._expected.clear()
            except TimeoutError:
                pass

    async def _act_on_due(self) -> float:
        """Act on the rows that are due; return how many seconds to wait for the next."""
        longest_s = self._head.longest_wait_s
        while True:
            due = await self._times.next_due(self._mark)
            if due.wait_s is None or due.wait_s > 0:
                # A row is never inserted as due before the time at which its statement began (rule 11).
                self._mark = max(self._mark, due.now - LONGEST_STATEMENT)
                wait_s = longest_s if due.wait_s is None else due.wait_s
                return min(max(wait_s, _SHORTEST_WAIT_S), longest_s)
            last = await self._act(self._mark)
            if last is None:
                return _SHORTEST_WAIT_S
            self._has_moved = True
            self._mark = min(last, due.now - LONGEST_STATEMENT)

    async def _save_mark(self) -> None:
        if self._has_moved and time.monotonic() >= self._save_at:
            self._save_at = time.monotonic() + SAVE_EVERY_S
            await self._marks.save([Mark(HEADS, self._head.number, self._mark)])
            self._has_moved = False

    async def look_below(self) -> None:
        """Look for rows below the mark until cancelled."""
        look = Look(LOOK_BELOW_S, self.find_below)
        while True:
            await asyncio.sleep(LOOK_BELOW_S / 2)
            try:
                await look.again()
            except StorageUnavailable as error:
                extra = {"head": self._head.name, "error": str(error)}
                log.debug("could not look below a mark", extra=extra)

    async def find_below(self) -> None:
        """Lower the mark to the first row below it."""
        left = await self._times.below(self._mark)
        if left is not None:
            self._mark = min(self._mark, left)
            self.expect()
