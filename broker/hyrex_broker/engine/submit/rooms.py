"""Room in queues that have a maximum of what may wait.

A broker looks how much waits, and then counts down what it accepts itself: a submit costs a subtraction, and
a queue without a maximum nothing. It looks again when half of the room is taken, or the last look is old, so
what others accept or take away is known soon. Looks of a queue stop at its maximum, and take at most a
twentieth of a connection's time. So the maximum is approximate: brokers that look at the same time may each
accept what is left, and what comes in faster than a look is refused for a moment.
"""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Final, Protocol

from hyrex_broker.domain.blocks import TaskBlock
from hyrex_broker.domain.errors import QueueAtMaximum, StorageUnavailable
from hyrex_broker.storage.sqlstates import StatementRefused

log = logging.getLogger(__name__)

_PATIENCE_FACTOR: Final = 20
_SHORTEST_PAUSE_S: Final = 0.05
_PAUSE_AFTER_FAILURE_S: Final = 0.5
_AGEING_S: Final = 5.0
"""A look that is older is replaced as soon as somebody submits;"""
_OLD_S: Final = 15.0
"""and one that is older than that is not relied on."""
_FULL_RETRY_S: Final = 1.0
_SOON_S: Final = 0.1
"""When to come again if only the room that the last look found is taken: the next one is under way."""


class LooksAtQueues(Protocol):
    """Looks how much waits."""

    async def of_queue(self, queue: str, most: int) -> int:
        """How many wait in one queue, ready or delayed, counted up to `most`. Raises StorageUnavailable."""
        ...


@dataclass(slots=True)
class _QueueRoom:
    """What is known of one queue."""

    most: int
    left: int = 0
    found: int = 0
    """The room at the last look."""
    looked_at: float = float("-inf")
    due: float = 0.0
    """The next look is made no sooner."""
    unsure: int = 0
    """Accepted and not stored yet when the present look began, or accepted since: it may have missed them."""
    pending: int = 0
    """Accepted and not stored yet."""
    one: asyncio.Lock = field(default_factory=asyncio.Lock)


class Rooms:
    """How many tasks may still be put into the queues that have a maximum."""

    def __init__(self, waiting: LooksAtQueues) -> None:
        self._waiting = waiting
        self._rooms: dict[str, _QueueRoom] = {}
        self._asked: dict[str, None] = {}
        self._call = asyncio.Event()

    @asynccontextmanager
    async def taken(
        self, blocks: Sequence[TaskBlock], bounded: Mapping[str, int]
    ) -> AsyncIterator[Sequence[int]]:
        """Within it, tasks are stored: how many of each block, its first ones. Raises StorageUnavailable."""
        counts: list[int] = []
        try:
            for block in blocks:
                most = bounded.get(block.terms.queue)
                counts.append(
                    len(block) if most is None else await self.take(block.terms.queue, len(block), most)
                )
            yield counts
        finally:
            for block, count in zip(blocks, counts, strict=False):
                if block.terms.queue in bounded:
                    self._rooms[block.terms.queue].pending -= count

    async def take(self, queue: str, count: int, most: int) -> int:
        """As many of so many tasks as may be put into this queue now. Raises StorageUnavailable."""
        room = self._rooms.setdefault(queue, _QueueRoom(most))
        if room.most != most:
            room.most, room.looked_at = most, float("-inf")
        if time.monotonic() - room.looked_at > _OLD_S:
            await self._look(queue, room, at_most_s=_OLD_S)
        taken = min(count, room.left)
        room.left -= taken
        room.unsure += taken
        room.pending += taken
        if taken < count or room.left <= room.found // 2 or time.monotonic() - room.looked_at > _AGEING_S:
            self._asked[queue] = None
            self._call.set()
        return taken

    def refusal(self, queue: str) -> QueueAtMaximum:
        """What a task is told for which there was no room."""
        room = self._rooms[queue]
        return QueueAtMaximum(queue, room.most, _SOON_S if room.found else _FULL_RETRY_S)

    async def run(self) -> None:
        """Look where somebody took from what the last look had found, until cancelled."""
        while True:
            await self._call.wait()
            self._call.clear()
            await self._look_where_due()

    async def _look_where_due(self) -> None:
        asked, self._asked = self._asked, {}
        later: dict[str, float] = {}
        for queue in asked:
            room = self._rooms[queue]
            if (due := room.due) > time.monotonic():
                later[queue] = due
                continue
            try:
                await self._look(queue, room)
            except (StorageUnavailable, StatementRefused) as error:
                log.debug("no look at a queue's depth", extra={"queue": queue, "error": str(error)})
        if later:
            self._asked = dict.fromkeys(later) | self._asked
            asyncio.get_running_loop().call_at(min(later.values()), self._call.set)

    async def _look(self, queue: str, room: _QueueRoom, at_most_s: float = 0.0) -> None:
        """Look at a queue, unless somebody else just did: one looks at a time. Raises StorageUnavailable."""
        async with room.one:
            began = time.monotonic()
            if began - room.looked_at <= at_most_s:
                return
            room.due = began + _PAUSE_AFTER_FAILURE_S
            room.unsure = room.pending
            count = await self._waiting.of_queue(queue, room.most)
            room.looked_at = time.monotonic()
            room.due = room.looked_at + max(_SHORTEST_PAUSE_S, _PATIENCE_FACTOR * (room.looked_at - began))
            room.found = max(0, room.most - count)
            room.left = max(0, room.found - room.unsure)
