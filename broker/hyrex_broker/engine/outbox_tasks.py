"""Makes tasks of rows of the outbox that are fit and have room; puts the others aside."""

import logging
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import Final

from hyrex_broker.domain.errors import StorageUnavailable, TooManyQueues
from hyrex_broker.domain.features import FeatureGate
from hyrex_broker.domain.model import TaskId
from hyrex_broker.domain.outbox import ZERO_ID, HeldBack, OutboxRow, RelayedTask, reason_of, why_refused
from hyrex_broker.engine.dispatch.promoter import Promoter
from hyrex_broker.engine.extra_slots import LanesAndRooms
from hyrex_broker.engine.growth import AT_ONCE
from hyrex_broker.engine.keyed_lanes import KeyedLanes
from hyrex_broker.storage.outbox import OutboxStore, RelayPlace, is_old
from hyrex_broker.storage.sqlstates import StatementRefused

log = logging.getLogger(__name__)

_BATCH_BYTES: Final = 8 * 1024 * 1024
"""Of one statement, or one row."""


class OutboxTasks:
    """Makes tasks, or notes why a row is none yet."""

    def __init__(
        self, store: OutboxStore, lanes: LanesAndRooms, promoter: Promoter, payload_limit_bytes: int
    ) -> None:
        self._store = store
        self._counters = store.counters
        self._directory = lanes.directory
        self._lanes = KeyedLanes(lanes.directory, lanes.keys)
        self._rooms = lanes.rooms
        self._dispatcher = lanes.dispatcher
        self._promoter = promoter
        self._limit_bytes = payload_limit_bytes
        self.on_blocked: Callable[[Iterable[TaskId]], None] = lambda task_ids: None
        """Called with tasks that wait until they are followed, after the commit."""
        self.gate = FeatureGate()
        self.full: dict[str, TaskId] = {}
        """Queues of which rows wait for room, with the last one that became a task."""

    async def relay(self, rows: Sequence[OutboxRow]) -> None:
        """Make tasks of rows, or let them wait."""
        fit, refused = list[OutboxRow](), list[tuple[OutboxRow, str]]()
        for row in rows:
            if (reason := await self.refusal(row)) is None:
                fit.append(row)
            else:
                refused.append((row, reason))
        if refused:
            await self._refuse(refused)
        if fit:
            await self.relay_with_room(fit)

    async def refusal(self, row: OutboxRow) -> str | None:
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

    async def relay_with_room(self, rows: Sequence[OutboxRow]) -> int:
        """Make tasks of as many as there is room for, and let the others wait; how many were made.

        Where rows wait for room already, later ones wait behind them.
        """
        behind = [row for row in rows if row.held is not HeldBack.FULL and row.queue in self.full]
        first = [row for row in rows if row.held is HeldBack.FULL or row.queue not in self.full]
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
            made = await self.relay_fitting(fit)
        finally:
            taken.let_go()
        if fit and fit[-1].held is HeldBack.FULL:
            self.full[fit[-1].queue] = fit[-1].row_id
        if waiting:
            await self._store.hold(waiting, HeldBack.FULL, [None] * len(waiting))
            for queue in {row.queue for row in waiting} - self.full.keys():
                log.warning("rows of the outbox wait for room in their queue", extra={"queue": queue})
                self.full[queue] = ZERO_ID
        return made

    async def relay_fitting(self, rows: Sequence[OutboxRow]) -> int:
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


def _kind(row: OutboxRow) -> tuple[bool, bool]:
    """What one statement stores together: rows with keys apart from others, and those of long ago too."""
    return is_old(row.row_id), row.has_key
