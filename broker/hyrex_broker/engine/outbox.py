"""Finds what callers stored in their own transactions, and has tasks made of it (`outbox_tasks`).

Every broker looks, a few times a second where nothing comes: a NOTIFY would make the callers' commits wait
for one another. It goes on from the snapshot of its last look. What a broker left that was killed, or was
stored before this one began, is found by a look of its own, since that may pass many dead rows.
"""

import asyncio
import logging
import time
from collections.abc import Sequence
from contextlib import suppress
from typing import Final

from hyrex_broker.domain.errors import StorageUnavailable
from hyrex_broker.domain.model import TaskId
from hyrex_broker.domain.outbox import (
    ZERO_ID,
    HeldBack,
    OutboxRow,
)
from hyrex_broker.engine.dispatch.promoter import Promoter
from hyrex_broker.engine.extra_slots import LanesAndRooms
from hyrex_broker.engine.looks import Look
from hyrex_broker.engine.outbox_passes import BATCH, Passes, Pauses
from hyrex_broker.engine.outbox_tasks import OutboxTasks
from hyrex_broker.storage.outbox import OutboxStore, is_old
from hyrex_broker.storage.sqlstates import StatementRefused

log = logging.getLogger(__name__)

LOOK_BELOW_S: Final = 5.0
_ROOM_EVERY_S: Final = 0.5
REFUSED_EVERY_S: Final = 60.0
_TAKEN_FOR_S: Final = 2.0
"""How long a retry waits for whoever is taking its row;"""
_LOOK_AGAIN_S: Final = 0.02
"""and how often it looks."""


class OutboxRelay:
    """Has tasks made of the outbox's rows, each once."""

    def __init__(
        self, store: OutboxStore, lanes: LanesAndRooms, promoter: Promoter, payload_limit_bytes: int
    ) -> None:
        self._store = store
        self.tasks = OutboxTasks(store, lanes, promoter, payload_limit_bytes)
        self.passes = Passes(store)
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
        pauses = Pauses()
        while True:
            try:
                pause_s = pauses.after(await self.relay_next() + await self._relay_full_queues())
            except (StorageUnavailable, StatementRefused) as error:
                log.debug("the outbox waits for the database", extra={"error": str(error)})
                pause_s = pauses.failed()
            with suppress(TimeoutError):
                async with asyncio.timeout(pause_s):
                    await self._hurried.wait()
            self._hurried.clear()

    async def relay_next(self) -> int:
        """Make tasks of the next rows; how many were seen. Raises StorageUnavailable."""
        return await self.passes.next(self.tasks.relay)

    async def relay_now(self, task_ids: Sequence[TaskId]) -> set[TaskId]:
        """Make tasks of these rows, whether or not there is room: somebody cancels them. Those of which none
        can be made are removed, and returned. Raises StorageUnavailable."""
        rows = await self._store.of_ids(task_ids)
        fit = [row for row in rows if await self.tasks.refusal(row) is None]
        if fit:
            await self.tasks.relay_fitting(fit)
        removed = await self._store.discard(task_ids) if rows else set()
        if any(is_old(row.row_id) for row in fit) and await self._store.of_ids([row.row_id for row in fit]):
            raise StorageUnavailable("a task of long ago waits in the outbox while days are removed")
        return removed

    async def _relay_full_queues(self) -> int:
        """Make tasks of rows that waited for room; how many."""
        if not self.tasks.full or time.monotonic() < self._room_due:
            return 0
        self._room_due = time.monotonic() + _ROOM_EVERY_S
        made = 0
        for queue, after in list(self.tasks.full.items()):
            rows = await self._store.full(queue, after, BATCH)
            if rows:
                made += await self.tasks.relay_with_room(rows)
            elif after != ZERO_ID:
                self.tasks.full[queue] = ZERO_ID  # then look for one that was passed over
            else:
                del self.tasks.full[queue]
        if made:
            self._room_due = 0.0
        return made

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
            self.tasks.full.setdefault(queue, ZERO_ID)
        await self.passes.look_below()

    async def retry_refused(self) -> None:
        """Try again what was refused: a broker of a later version may know it. Raises StorageUnavailable."""
        after = ZERO_ID
        while rows := await self._store.refused(after, BATCH):
            after = rows[-1].row_id
            await self.tasks.relay(rows)

    async def retry(self, row_ids: Sequence[TaskId]) -> dict[TaskId, OutboxRow]:
        """Make tasks of these rows now, also of those that were refused. Return those that are still in the
        outbox after that. Raises StorageUnavailable."""
        until, left = time.monotonic() + _TAKEN_FOR_S, await self._tried(row_ids)
        while time.monotonic() < until and (
            taken := [each for each, row in left.items() if row.held is None]
        ):
            await asyncio.sleep(_LOOK_AGAIN_S)
            held = {row_id: row for row_id, row in left.items() if row.held is not None}
            left = held | await self._tried(taken)
        return left

    async def _tried(self, row_ids: Sequence[TaskId]) -> dict[TaskId, OutboxRow]:
        """Those that are left after one try. One that is not held back is being taken: by another broker, or
        by the loop of this one."""
        rows = [row for row in await self._store.of_ids(row_ids) if row.held is not HeldBack.FULL]
        if rows:
            await self.tasks.relay(rows)
        return {row.row_id: row for row in await self._store.of_ids(row_ids)}
