"""Reads a table in the order of its times, and acts on the rows that are due by the database's clock.

It is read from a low-water mark on (rule 11). Rows below it, left there by a statement that failed, are
looked for by an asyncio task of its own, since that may take very long while some transaction is held open.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Final, Protocol

from hyrex_broker.domain.errors import StorageUnavailable
from hyrex_broker.engine.head_mark import HeadMark, look_below
from hyrex_broker.storage.marks import MarkStore
from hyrex_broker.storage.promote import NextDue
from hyrex_broker.storage.sqlstates import StatementRefused

log = logging.getLogger(__name__)

_SHORTEST_WAIT_S: Final = 0.005


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
        self._act = act
        self._expected = asyncio.Event()
        self._mark = HeadMark(head.number, marks)

    def expect(self) -> None:
        """Look again at what is due next: a row was inserted here."""
        self._expected.set()

    async def run(self) -> None:
        """Act until cancelled."""
        await self._mark.load()
        async with asyncio.TaskGroup() as group:
            group.create_task(self._act_when_due())
            group.create_task(look_below(self.find_below))

    async def _act_when_due(self) -> None:
        while True:
            try:
                wait_s = await self._act_on_due()
                await self._mark.save()
            except (StorageUnavailable, StatementRefused) as error:
                told = {"head": self._head.name, "error": str(error)}
                log.debug("due rows wait for the database", extra=told)
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
            due = await self._times.next_due(self._mark.at)
            if due.wait_s is None or due.wait_s > 0:
                self._mark.nothing_due(due.now)
                wait_s = longest_s if due.wait_s is None else due.wait_s
                return min(max(wait_s, _SHORTEST_WAIT_S), longest_s)
            last = await self._act(self._mark.at)
            if last is None:
                return _SHORTEST_WAIT_S
            self._mark.moved(last, due.now)

    async def find_below(self) -> None:
        """Lower the mark to the first row below it."""
        if await self._mark.lower(self._times.below):
            self.expect()
