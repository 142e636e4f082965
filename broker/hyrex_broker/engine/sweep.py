"""The sweep: finds what nobody has followed, since its broker was killed or an answer was lost (rule 23).

One broker looks for all. It reads the ends in followed lanes, and what was put into `blocked`, by their
times: each once, some seconds after it, whatever waits meanwhile. How far it came is stored once all that it
found has been followed, so that the next broker goes on from there. Beside that it goes through seats and
blocked tasks by their ids, a page a look, for what no end tells of: rows that were lost or written by hand.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Final, Protocol

from hyrex_broker.domain.errors import StorageUnavailable
from hyrex_broker.domain.ids import LAST
from hyrex_broker.domain.model import BrokerId, TaskId
from hyrex_broker.engine.nodes import Nodes
from hyrex_broker.storage.follow import FIRST, FollowStore, SweptPage, Unfollowed
from hyrex_broker.storage.marks import FOLLOWED_HEAD, HEADS, Mark, MarkStore
from hyrex_broker.storage.sqlstates import StatementRefused

log = logging.getLogger(__name__)

EVERY_S: Final = 10.0
"""Between two looks, if none is asked for."""
SETTLED: Final = timedelta(seconds=5)
"""Ends are looked at when they are so old: by then, whoever recorded one has mostly followed it, and the
statements that began before it have ended, so that none appears behind the mark."""
PAGE: Final = 1000
_REST_FACTOR: Final = 4
"""After each page, so many times what it took: a fifth of a connection at most."""
_BEGINNING: Final = datetime(1970, 1, 1, tzinfo=UTC)
_FOR_EVER: Final = datetime(9000, 1, 1, tzinfo=UTC)
_OVERLAP: Final = timedelta(minutes=1)
"""So much is read again by a broker that begins to look: it does not know how the clock went since the mark
was stored."""
_AHEAD: Final = timedelta(minutes=1)
"""So long after what has settled nothing is recorded now: only ends from before the clock was set back."""
_JITTER: Final = timedelta(seconds=1)
"""Between two clocks, of a look; less than SETTLED."""
_NO_ROOM_PAUSE_S: Final = 0.2

Read = Callable[[tuple[datetime, TaskId], datetime, int], Awaitable[Unfollowed]]


class Following(Protocol):
    """Who follows what is found."""

    @property
    def has_caught_up(self) -> bool:
        """True if everything was followed that was told before the last `begin_catching_up`."""

    def begin_catching_up(self) -> None:
        """Watch from now on whether it catches up."""

    def take(self, task_ids: Sequence[TaskId], keys: Sequence[int] = ()) -> bool:
        """Follow these. Return False if there is no room for them now."""


class Sweep:
    """Tells of what nobody has followed."""

    def __init__(self, store: FollowStore, nodes: Nodes, marks: MarkStore, broker: BrokerId) -> None:
        self._store = store
        self._marks = marks
        self._broker = broker
        self._asked = asyncio.Event()
        self._asked.set()
        self._mark: datetime | None = None
        """Ends up to here were looked at; None: this broker was not the one that looks."""
        self._looked_at = 0.0
        """When that was, by this process's clock."""
        self._is_new = False
        """Something was found below the mark since it was stored."""
        self._rounds: dict[Callable[[TaskId, int], Awaitable[SweptPage]], TaskId] = dict.fromkeys(
            (store.dead_seats, store.stuck, nodes.due), FIRST
        )

    def soon(self) -> None:
        """Look at once: a broker has gone."""
        self._asked.set()

    async def run(self, follower: Following) -> None:
        """Look until cancelled."""
        while True:
            try:
                async with asyncio.timeout(EVERY_S):
                    await self._asked.wait()
            except TimeoutError:
                pass
            self._asked.clear()
            try:
                settled = await self._store.elected(self._broker, SETTLED)
                if settled is None:
                    self._mark = None
                else:
                    await self._look(follower, settled)
            except (StorageUnavailable, StatementRefused) as error:
                log.debug("the sweep of followed tasks goes on later", extra={"error": str(error)})

    async def _look(self, follower: Following, settled: datetime) -> None:
        now, overlap, begins = asyncio.get_running_loop().time(), _OVERLAP, self._mark is None
        if self._mark is None:
            self._mark, self._is_new = await self._stored(), False
        else:
            overlap = timedelta(seconds=now - self._looked_at) - _JITTER
            if self._is_new and follower.has_caught_up:
                await self._marks.save([Mark(HEADS, FOLLOWED_HEAD, self._mark)])
                self._is_new = False
        # Where the database's clock was set back since the last look, ends have come below the mark. None of
        # them is older than the time that has passed: so that much is read, wherever the mark is.
        above = min(self._mark, settled - overlap)
        parts = [(above, settled)]
        was_set_back = settled < self._mark
        if was_set_back:
            await self._marks.lower(Mark(HEADS, FOLLOWED_HEAD, above))
        if was_set_back or begins:
            # What came before the clock was set back is ahead of it: read from where nothing is recorded now,
            # or there would always be a next end.
            parts.append((settled + _AHEAD, _FOR_EVER))
        for read in (self._store.ended, self._store.entered):
            for above, until in parts:
                await self._read(read, above, until, follower)
        for page in self._rounds:
            await self._go_on(page, follower)
        # Only now: what was told before the last page may be followed while the last one is not.
        follower.begin_catching_up()
        self._mark, self._looked_at = settled, now

    async def _read(self, read: Read, above: datetime, until: datetime, follower: Following) -> None:
        after: tuple[datetime, TaskId] | None = (above, LAST)
        while after is not None:
            began = asyncio.get_running_loop().time()
            found = await read(after, until, PAGE)
            took_s = asyncio.get_running_loop().time() - began
            await _told(follower, found.task_ids, found.keys)
            self._is_new |= found.last is not None
            after = found.last
            if after is not None:
                await asyncio.sleep(_REST_FACTOR * took_s)

    async def _go_on(self, page: Callable[[TaskId, int], Awaitable[SweptPage]], follower: Following) -> None:
        above = self._rounds[page]
        found = await page(above, PAGE)
        if found.last is None and above != FIRST:
            found = await page(FIRST, PAGE)
        await _told(follower, found.task_ids)
        self._rounds[page] = found.last or FIRST

    async def _stored(self) -> datetime:
        heads = await self._marks.load(heads=True)
        return next((mark.at for mark in heads if mark.rank == FOLLOWED_HEAD), _BEGINNING)


async def _told(follower: Following, task_ids: Sequence[TaskId], keys: Sequence[int] = ()) -> None:
    """Have these followed, as soon as there is room for them."""
    while not follower.take(task_ids, keys):  # noqa: ASYNC110
        await asyncio.sleep(_NO_ROOM_PAUSE_S)
