"""Reads an outbox pass by pass, each from the snapshot at which the last one began, and paces the looks.

So a look neither passes what was removed before, nor misses who commits late. It is the same for the outbox
of the broker's database and for one beside it.
"""

import time
from collections.abc import Awaitable, Callable
from typing import Final, Generic, Protocol

from hyrex_broker.domain.outbox import CommitSnapshot, Cursor, Position, SeenRow, SeenRows

BATCH: Final = 1000
_SHORTEST_PAUSE_S: Final = 0.02
LONGEST_PAUSE_S: Final = 0.25
_IDLE_AFTER_S: Final = 60.0
_IDLE_PAUSE_S: Final = 1.0
"""Where nobody has enqueued anything for a minute: a look costs half a millisecond of this process."""


class Outbox(Protocol[SeenRow]):
    """Where the rows are. Each method raises StorageUnavailable."""

    async def here(self) -> CommitSnapshot:
        """The snapshot of this moment."""
        ...

    async def look(self, cursor: Cursor, most: int) -> SeenRows[SeenRow]:
        """Up to so many rows of the transactions that were in progress, and so many of later ones."""
        ...

    async def below(self, xid: int) -> int | None:
        """The first transaction below one that has rows left."""
        ...


class Passes(Generic[SeenRow]):
    """Where a broker goes on with an outbox."""

    def __init__(self, outbox: Outbox[SeenRow]) -> None:
        self._outbox = outbox
        self.cursor: Cursor | None = None
        self._pass_from: CommitSnapshot | None = None

    async def next(self, take: Callable[[list[SeenRow]], Awaitable[object]]) -> int:
        """Have the next rows taken; how many were seen. Raises StorageUnavailable, or what `take` does: then
        they are read again."""
        if self.cursor is None:
            self.cursor = Cursor(await self._outbox.here())
        cursor = self.cursor
        seen = await self._outbox.look(cursor, BATCH)
        if self._pass_from is None:
            self._pass_from = seen.snapshot
        late = [row for row in seen.rows if row.is_late]
        new = seen.rows[len(late) :]
        await take(seen.rows)
        if cursor is not self.cursor:
            return len(seen.rows)  # it was set back meanwhile
        if len(late) < BATCH and len(new) < BATCH:
            # All was seen that the first look of this pass could see: go on with what it could not.
            self.cursor, self._pass_from = Cursor(self._pass_from), None
        else:
            cursor.late = late[-1].place if late else cursor.late
            cursor.new = new[-1].place if new else cursor.new
        return len(seen.rows)

    async def look_below(self) -> None:
        """Go back to what others left, if there is some. Raises StorageUnavailable."""
        cursor = self.cursor
        first = cursor.since.next_xid if cursor is not None else (await self._outbox.here()).next_xid
        left = await self._outbox.below(first)
        if left is not None:
            self.cursor, self._pass_from = Cursor(CommitSnapshot((), left), new=Position(left)), None


class Pauses:
    """How long to wait between two looks: not where rows came, else longer each time."""

    def __init__(self) -> None:
        self._pause_s = LONGEST_PAUSE_S
        self._found_at = float("-inf")

    def after(self, found: int) -> float:
        """Seconds after a look that has found so many rows."""
        now = time.monotonic()
        self._found_at = now if found else self._found_at
        longest_s = _IDLE_PAUSE_S if now - self._found_at > _IDLE_AFTER_S else LONGEST_PAUSE_S
        self._pause_s = 0.0 if found else min(max(_SHORTEST_PAUSE_S, 2 * self._pause_s), longest_s)
        return self._pause_s

    def failed(self, pause_s: float = LONGEST_PAUSE_S) -> float:
        """Seconds after a look that has failed."""
        self._pause_s = pause_s
        return pause_s
