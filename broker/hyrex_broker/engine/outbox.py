"""Makes tasks of what callers stored in their own transactions.

Every broker looks, a few times a second where nothing comes: a NOTIFY would make the callers' commits wait
for one another. It goes on from the snapshot of its last look. What a broker left that was killed, or was
stored before this one began, is found by a look of its own, since that may pass many dead rows.
"""

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from typing import Final

from hyrex_broker.domain.errors import StorageUnavailable, TooManyQueues
from hyrex_broker.domain.features import FeatureGate
from hyrex_broker.domain.model import TaskId
from hyrex_broker.domain.outbox import (
    ZERO_ID,
    CommitSnapshot,
    Cursor,
    HeldBack,
    OutboxRow,
    Position,
    RelayedTask,
    reason_of,
    why_refused,
)
from hyrex_broker.engine.dispatch.promoter import Promoter
from hyrex_broker.engine.extra_slots import LanesAndRooms
from hyrex_broker.engine.growth import AT_ONCE
from hyrex_broker.engine.keyed_lanes import KeyedLanes
from hyrex_broker.engine.looks import Look
from hyrex_broker.storage.outbox import OutboxStore, RelayPlace, is_old
from hyrex_broker.storage.sqlstates import StatementRefused

log = logging.getLogger(__name__)

BATCH: Final = 1000
_BATCH_BYTES: Final = 8 * 1024 * 1024
"""Of one statement, or one row."""
_SHORTEST_PAUSE_S: Final = 0.02
LONGEST_PAUSE_S: Final = 0.25
_IDLE_AFTER_S: Final = 60.0
_IDLE_PAUSE_S: Final = 1.0
"""Where nobody has enqueued anything for a minute: a look costs half a millisecond of this process."""
LOOK_BELOW_S: Final = 5.0
_ROOM_EVERY_S: Final = 0.5
REFUSED_EVERY_S: Final = 60.0


class OutboxRelay:
    """Makes tasks of the outbox's rows."""

    def __init__(
        self, store: OutboxStore, lanes: LanesAndRooms, promoter: Promoter, payload_limit_bytes: int
    ) -> None:
        self._store = store
        self._counters = store.counters
        self._directory = lanes.directory
        self._lanes = KeyedLanes(lanes.directory, lanes.keys)
        self.on_blocked: Callable[[Iterable[TaskId]], None] = lambda task_ids: None
        """Called with tasks that wait until they are followed, after the commit."""
        self.gate = FeatureGate()
        self._rooms = lanes.rooms
        self._dispatcher = lanes.dispatcher
        self._promoter = promoter
        self._limit_bytes = payload_limit_bytes
        self._cursor: Cursor | None = None
        self._pass_from: CommitSnapshot | None = None
        self._full: dict[str, TaskId] = {}
        self._room_due = 0.0
        self._hurried = asyncio.Event()

    def hurry(self) -> None:
        """Look at once: rows were put into the outbox here."""
        self._hurried.set()

    async def run(self) -> None:
        """Relay until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._relay())
            group.create_task(self._look_elsewhere())

    async def _relay(self) -> None:
        pause_s, found_at = LONGEST_PAUSE_S, float("-inf")
        while True:
            try:
                found = await self.relay_next()
                found += await self._relay_full_queues()
                found_at = time.monotonic() if found else found_at
                is_idle = time.monotonic() - found_at > _IDLE_AFTER_S
                longest_s = _IDLE_PAUSE_S if is_idle else LONGEST_PAUSE_S
                pause_s = 0.0 if found else min(max(_SHORTEST_PAUSE_S, 2 * pause_s), longest_s)
            except (StorageUnavailable, StatementRefused) as error:
                log.debug("the outbox waits for the database", extra={"error": str(error)})
                pause_s = LONGEST_PAUSE_S
            with suppress(TimeoutError):
                async with asyncio.timeout(pause_s):
                    await self._hurried.wait()
            self._hurried.clear()

    async def relay_next(self) -> int:
        """Make tasks of the next rows; how many were seen. Raises StorageUnavailable."""
        if self._cursor is None:
            self._cursor = Cursor(await self._store.here())
        cursor = self._cursor
        seen = await self._store.look(cursor, BATCH)
        if self._pass_from is None:
            self._pass_from = seen.snapshot
        late = [row for row in seen.rows if row.is_late]
        new = seen.rows[len(late) :]
        await self._relay_rows(seen.rows)
        if cursor is not self._cursor:
            return len(seen.rows)  # it was set back meanwhile
        if len(late) < BATCH and len(new) < BATCH:
            # All was seen that the first look of this pass could see: go on with what it could not.
            self._cursor, self._pass_from = Cursor(self._pass_from), None
        else:
            cursor.late = late[-1].place if late else cursor.late
            cursor.new = new[-1].place if new else cursor.new
        return len(seen.rows)

    async def relay_now(self, task_ids: Sequence[TaskId]) -> set[TaskId]:
        """Make tasks of these rows, whether or not there is room: somebody cancels them. Those of which none
        can be made are removed, and returned. Raises StorageUnavailable."""
        rows = await self._store.of_ids(task_ids)
        fit = [row for row in rows if await self._refusal(row) is None]
        if fit:
            await self._relay_fitting(fit)
        removed = await self._store.discard(task_ids) if rows else set()
        if any(is_old(row.row_id) for row in fit) and await self._store.of_ids([row.row_id for row in fit]):
            raise StorageUnavailable("a task of long ago waits in the outbox while days are removed")
        return removed

    async def _relay_full_queues(self) -> int:
        """Make tasks of rows that waited for room; how many."""
        if not self._full or time.monotonic() < self._room_due:
            return 0
        self._room_due = time.monotonic() + _ROOM_EVERY_S
        made = 0
        for queue, after in list(self._full.items()):
            rows = await self._store.full(queue, after, BATCH)
            if rows:
                made += await self._relay_with_room(rows)
            elif after != ZERO_ID:
                self._full[queue] = ZERO_ID  # one that was passed over is looked for, then
            else:
                del self._full[queue]
        if made:
            self._room_due = 0.0
        return made

    async def _relay_rows(self, rows: Sequence[OutboxRow]) -> None:
        """Make tasks of rows, or let them wait."""
        fit, refused = list[OutboxRow](), list[tuple[OutboxRow, str]]()
        for row in rows:
            if (reason := await self._refusal(row)) is None:
                fit.append(row)
            else:
                refused.append((row, reason))
        if refused:
            await self._refuse(refused)
        if fit:
            await self._relay_with_room(fit)

    async def _refusal(self, row: OutboxRow) -> str | None:
        """Why no task can be made of a row now; None if one can. Raises StorageUnavailable."""
        reason = why_refused(row, self._limit_bytes)
        if reason is None and row.features and (error := await self.gate.use(row.features)) is not None:
            return error.message
        return reason

    async def _refuse(self, refused: Sequence[tuple[OutboxRow, str]]) -> None:
        """Put rows aside, once: what is refused again for the same reason stays as it is."""
        told = [(row, reason_of(reason)) for row, reason in refused]
        anew = [(row, reason) for row, reason in told if (row.held, row.reason) != (HeldBack.REFUSED, reason)]
        for row, reason in anew:
            log.error(
                "a row of the outbox cannot become a task; it is tried again every minute"
                " (hyrex outbox list)",
                extra={"id": row.row_id, "task": row.task, "queue": row.queue, "reason": reason},
            )
        if anew:
            await self._store.hold([row for row, _ in anew], HeldBack.REFUSED, [reason for _, reason in anew])

    async def _relay_with_room(self, rows: Sequence[OutboxRow]) -> int:
        """Make tasks of as many as there is room for, and let the others wait; how many were made.

        Where rows wait for room already, later ones wait behind them.
        """
        behind = [row for row in rows if row.held is not HeldBack.FULL and row.queue in self._full]
        first = [row for row in rows if row.held is HeldBack.FULL or row.queue not in self._full]
        wanted, waiting = Counter(row.queue for row in first), behind
        taken = await self._rooms.taken_of(list(wanted.items()), self._directory.max_waiting)
        try:
            left = dict(zip(wanted, taken.counts, strict=True))
            fit = list[OutboxRow]()
            for row in first:
                if left[row.queue]:
                    left[row.queue] -= 1
                    fit.append(row)
                elif row.held is not HeldBack.FULL:
                    waiting.append(row)
            made = await self._relay_fitting(fit)
        finally:
            taken.let_go()
        if fit and fit[-1].held is HeldBack.FULL:
            self._full[fit[-1].queue] = fit[-1].row_id
        if waiting:
            await self._store.hold(waiting, HeldBack.FULL, [None] * len(waiting))
            for queue in {row.queue for row in waiting} - self._full.keys():
                log.warning("rows of the outbox wait for room in their queue", extra={"queue": queue})
                self._full[queue] = ZERO_ID
        return made

    async def _relay_fitting(self, rows: Sequence[OutboxRow]) -> int:
        """Make tasks of rows that have room, in parts that one statement stores; how many were made."""
        places = await self._lanes.of(row.named for row in rows)
        made, part, size = 0, list[tuple[OutboxRow, RelayPlace]](), 0
        refused = list[tuple[OutboxRow, str]]()
        for row in sorted(rows, key=_kind):
            place = places[row.named]
            if place.lane is None:
                error = TooManyQueues(f"task {row.task} of queue {row.queue!r}", AT_ONCE)
                refused.append((row, error.message))
                continue
            if part and (size + row.size_bytes > _BATCH_BYTES or _kind(row) != _kind(part[0][0])):
                made += await self._store_all(part)
                part, size = [], 0
            part.append((row, (place.lane, place.key_hash)))
            size += row.size_bytes
        if part:
            made += await self._store_all(part)
        if refused:
            await self._refuse(refused)
        return made

    async def _store_all(self, rows: Sequence[tuple[OutboxRow, RelayPlace]]) -> int:
        """Make tasks together; what the database refuses, or cannot store in time, is put aside (rule 6)."""
        try:
            made = await self._store.relay([row for row, _ in rows], [place for _, place in rows])
        except StatementRefused as error:
            if error.lacks_partition and len(rows) == 1 and await self._store.made_day(rows[0][0].row_id):
                return await self._store_all(rows)
            return await self._store_apart(rows, error)
        except StorageUnavailable as error:
            if not error.timed_out:
                raise
            return await self._store_apart(rows, error)
        self._follow(made)
        return len(made)

    async def _store_apart(self, rows: Sequence[tuple[OutboxRow, RelayPlace]], error: Exception) -> int:
        """Make tasks of each half of what could not be stored together; put one row aside."""
        if len(rows) > 1:
            half = len(rows) // 2
            return await self._store_all(rows[:half]) + await self._store_all(rows[half:])
        ((row, _),) = rows
        await self._refuse([(row, f"the database refused it ({reason_of(error)})")])
        return 0

    def _follow(self, made: Sequence[RelayedTask]) -> None:
        """Let tasks be assigned, or wait for their time."""
        if not made:
            return
        self._counters.stored(Counter(each.lane for each in made))
        ready = {(each.lane, each.rank) for each in made if not (each.waits or each.is_blocked)}
        if ready:
            self._dispatcher.wake(ready, local=True)
        if blocked := [each.task_id for each in made if each.is_blocked]:
            self.on_blocked(blocked)
        if any(each.waits for each in made):
            self._promoter.expect()

    async def _look_elsewhere(self) -> None:
        below, refused = Look(LOOK_BELOW_S, self.look_below), Look(REFUSED_EVERY_S, self.retry_refused)
        while True:
            try:
                await below.again()
                await refused.again()
            except (StorageUnavailable, StatementRefused) as error:
                log.debug("the outbox could not be looked through", extra={"error": str(error)})
            await asyncio.sleep(LOOK_BELOW_S / 2)

    async def look_below(self) -> None:
        """Find what others left, and queues with rows that wait for room. Raises StorageUnavailable."""
        for queue in await self._store.full_queues():
            self._full.setdefault(queue, ZERO_ID)
        cursor = self._cursor
        first = cursor.since.next_xid if cursor is not None else (await self._store.here()).next_xid
        left = await self._store.below(first)
        if left is not None:
            self._cursor, self._pass_from = Cursor(CommitSnapshot((), left), new=Position(left)), None

    async def retry_refused(self) -> None:
        """Try again what was refused: a broker of a later version may know it. Raises StorageUnavailable."""
        after = ZERO_ID
        while rows := await self._store.refused(after, BATCH):
            after = rows[-1].row_id
            await self._relay_rows(rows)

    async def retry(self, row_ids: Sequence[TaskId]) -> dict[TaskId, OutboxRow]:
        """Make tasks of these rows now, also of those that were refused. Return those that are still in the
        outbox after that. Raises StorageUnavailable."""
        rows = [row for row in await self._store.of_ids(row_ids) if row.held is not HeldBack.FULL]
        if rows:
            await self._relay_rows(rows)
        return {row.row_id: row for row in await self._store.of_ids(row_ids)}


def _kind(row: OutboxRow) -> tuple[bool, bool]:
    """What one statement stores together: rows with keys apart from others, and those of long ago too."""
    return is_old(row.row_id), row.has_key
