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
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Protocol, TypeVar

from hyrex_broker.domain.blocks import TaskBlock
from hyrex_broker.domain.errors import QueueAtMaximum, StorageUnavailable
from hyrex_broker.domain.futures import retrieve
from hyrex_broker.storage.sqlstates import StatementRefused

log = logging.getLogger(__name__)

T = TypeVar("T")
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
    failed: bool = False
    """The last look failed."""
    one: asyncio.Lock = field(default_factory=asyncio.Lock)


class Taken:
    """The room that one request has taken, for all attempts to store its tasks.

    It counts as not stored yet while an attempt is under way, or a batch that one of them began: also when
    the caller is gone.
    """

    __slots__ = ("_rooms", "_users", "counts")

    def __init__(self) -> None:
        self.counts: list[int] = []
        """How many of each block's tasks may be stored, its first ones."""
        self._rooms: list[tuple[_QueueRoom, int]] = []
        self._users = 1

    def add(self, room: _QueueRoom, count: int) -> None:
        """So many were taken of the room of a queue."""
        room.pending += count
        self._rooms.append((room, count))

    def hold(self) -> None:
        """Another attempt begins; end it with `let_go`."""
        if not self._users:
            self._change(1)
        self._users += 1

    def let_go(self, _: object = None) -> None:
        """An attempt ends, or a batch of one."""
        self._users -= 1
        if not self._users:
            self._change(-1)

    def until_done(self, future: "asyncio.Future[T]") -> "asyncio.Future[T]":
        """What to wait for instead of a batch's future: who waits may leave, and the batch is stored."""
        self._users += 1
        future.add_done_callback(retrieve)
        future.add_done_callback(self.let_go)
        return asyncio.shield(future)

    def _change(self, sign: int) -> None:
        for room, count in self._rooms:
            room.pending += sign * count


class Rooms:
    """How many tasks may still be put into the queues that have a maximum."""

    def __init__(self, waiting: LooksAtQueues) -> None:
        self._waiting = waiting
        self._rooms: dict[str, _QueueRoom] = {}
        self._asked: dict[str, None] = {}
        self._call = asyncio.Event()
        self._timer: asyncio.TimerHandle | None = None

    async def taken(self, blocks: Sequence[TaskBlock], bounded: Mapping[str, int]) -> Taken:
        """The room for as many of these tasks as have any; `let_go` of it. Raises StorageUnavailable."""
        return await self.taken_of([(block.terms.queue, len(block)) for block in blocks], bounded)

    async def taken_of(self, wanted: Sequence[tuple[str, int]], bounded: Mapping[str, int]) -> Taken:
        """The same for so many tasks of each queue."""
        taken = Taken()
        try:
            for queue, count in wanted:
                room = count
                if (most := bounded.get(queue)) is not None:
                    room = await self.take(queue, count, most)
                    taken.add(self._rooms[queue], room)
                taken.counts.append(room)
        except BaseException:
            taken.let_go()
            raise
        return taken

    async def take(self, queue: str, count: int, most: int) -> int:
        """As many of so many tasks as may be put into this queue now. Raises StorageUnavailable."""
        room = self._rooms.setdefault(queue, _QueueRoom(most))
        if room.most != most:
            room.most, room.looked_at = most, float("-inf")
        while time.monotonic() - room.looked_at > _OLD_S:
            await self._look(queue, room, at_most_s=_OLD_S)
        taken = min(count, room.left)
        room.left -= taken
        room.unsure += taken
        if taken < count or room.left <= room.found // 2 or time.monotonic() - room.looked_at > _AGEING_S:
            self._ask(queue)
        return taken

    def refusal(self, queue: str) -> QueueAtMaximum:
        """What a task is told for which there was no room: no sooner than the next look it finds any."""
        room = self._rooms[queue]
        shortest = _SOON_S if room.found else _FULL_RETRY_S
        until_look = min(room.due - time.monotonic(), _OLD_S)
        return QueueAtMaximum(queue, room.most, max(shortest, until_look))

    def _ask(self, queue: str) -> None:
        if queue not in self._asked:  # else a wake or the timer is under way
            self._asked[queue] = None
            self._call.set()

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
            else:
                await self._try_to_look(queue, room)
        if later:
            self._asked = dict.fromkeys(later) | self._asked
            if self._timer is not None:
                self._timer.cancel()
            pause_s = max(0.0, min(later.values()) - time.monotonic())
            self._timer = asyncio.get_running_loop().call_later(pause_s, self._call.set)

    async def _try_to_look(self, queue: str, room: _QueueRoom) -> None:
        try:
            await self._look(queue, room)
        except (StorageUnavailable, StatementRefused) as error:
            log.debug("no look at a queue's depth", extra={"queue": queue, "error": str(error)})
        except Exception:
            # A defect: submits to this queue meet it themselves; those to others go on.
            log.exception("a look at a queue's depth failed", extra={"queue": queue})

    async def _look(self, queue: str, room: _QueueRoom, at_most_s: float = 0.0) -> None:
        """Look at a queue, unless somebody else just did: one looks at a time. If the last look failed a
        moment ago, so does this one, without trying. Raises StorageUnavailable."""
        async with room.one:
            began, most = time.monotonic(), room.most
            if began - room.looked_at <= at_most_s:
                return
            if room.failed and began < room.due:
                raise StorageUnavailable(f"how much waits in queue {queue!r} could not be read")
            room.unsure = room.pending
            room.failed = True
            try:
                count = await self._count(queue, most)
                room.failed = False
            finally:
                room.due = time.monotonic() + _PAUSE_AFTER_FAILURE_S
            if room.most != most:
                return  # changed meanwhile: a look for the new maximum follows
            room.looked_at = time.monotonic()
            room.due = room.looked_at + max(_SHORTEST_PAUSE_S, _PATIENCE_FACTOR * (room.looked_at - began))
            room.found = max(0, most - count)
            room.left = max(0, room.found - room.unsure)

    async def _count(self, queue: str, most: int) -> int:
        """How much waits. What takes too long to count is too much. Raises StorageUnavailable."""
        try:
            return await self._waiting.of_queue(queue, most)
        except StorageUnavailable as error:
            if error.timed_out:
                return most
            raise
