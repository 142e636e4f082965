"""Carries what callers stored in a database beside the broker's into the broker's own outbox, from which the
relay makes tasks of it.

Each part of rows is removed there and stored here in two transactions, of which that here is committed first.
Where anything breaks between the two, the rows are carried again, and those that have come are left out
(`carried`). While the other database is away, nothing else of the broker waits for it.
"""

import asyncio
import logging
from collections.abc import Callable, Iterator, Sequence
from typing import Final

from hyrex_broker.domain.carried_rows import why_unfit
from hyrex_broker.domain.errors import StorageUnavailable
from hyrex_broker.domain.model import TaskId
from hyrex_broker.domain.outbox import RefusedRow, reason_of
from hyrex_broker.engine.looks import Look
from hyrex_broker.engine.outbox_passes import BATCH, Passes, Pauses
from hyrex_broker.storage.beside import CarriedRow, CarriedStore, OutboxBeside, RowBeside
from hyrex_broker.storage.refused import RefusedStore
from hyrex_broker.storage.sqlstates import StatementRefused

log = logging.getLogger(__name__)

_BATCH_BYTES: Final = 8 * 1024 * 1024
"""Of one statement, or one row."""
_AWAY_PAUSE_S: Final = 2.0
LOOK_BELOW_S: Final = 5.0
FORGET_EVERY_S: Final = 60.0


class Carrier:
    """Carries rows from the outbox of another database."""

    def __init__(self, beside: OutboxBeside, store: CarriedStore) -> None:
        self._beside = beside
        self._store = store
        self.passes = Passes(beside)
        self.is_away = False
        """It did not answer the last time."""
        self.on_carried: Callable[[], None] = lambda: None
        self.refused = RefusedStore(beside.fetch, beside=True)
        """The rows there that cannot be carried."""

    async def run(self) -> None:
        """Carry until cancelled."""
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._carry())
                group.create_task(self._look_elsewhere())
        finally:
            await self._beside.close()

    async def _carry(self) -> None:
        pauses = Pauses()
        while True:
            try:
                found = await self.carry_next()
                self._is_there()
                pause_s = pauses.after(found)
            except (StorageUnavailable, StatementRefused) as error:
                self._failed(error)
                pause_s = pauses.failed(_AWAY_PAUSE_S)
            await asyncio.sleep(pause_s)

    async def carry_next(self) -> int:
        """Carry the next rows; how many were seen. Raises StorageUnavailable."""
        return await self.passes.next(self._carry_seen)

    async def bring(self, task_ids: Sequence[TaskId]) -> bool:
        """Carry those of these rows that are there and were not refused. Return False if nobody can tell now
        which are there."""
        if self.is_away:
            return False
        try:
            sizes = await self._beside.sizes(task_ids)
            await self._carry_rows(sorted(sizes.items()))
        except (StorageUnavailable, StatementRefused) as error:
            self._failed(error)
            return False
        return True

    async def refused_of(self, row_ids: Sequence[TaskId], *, with_payload: bool) -> list[RefusedRow]:
        """Those of these rows that were refused there; none while nobody can tell."""
        if self.is_away:
            return []
        try:
            return await self.refused.of_ids(row_ids, with_payload=with_payload)
        except StorageUnavailable as error:
            self._failed(error)
            return []

    async def retry(self, row_ids: Sequence[TaskId]) -> None:
        """Try to carry refused rows. Raises StorageUnavailable."""
        await self._carry_rows(sorted((await self._beside.sizes(row_ids, refused=True)).items()))

    async def _carry_seen(self, rows: Sequence[RowBeside]) -> None:
        await self._carry_rows([(row.row_id, row.size_bytes) for row in rows])

    async def _carry_rows(self, sized: Sequence[tuple[TaskId, int]]) -> None:
        for part in _parts(sized):
            await self._carry_part(part)
        if sized:
            self.on_carried()

    async def _carry_part(self, row_ids: Sequence[TaskId]) -> None:
        """Carry rows together; what is refused is put aside there, alone (rule 6)."""
        try:
            async with self._beside.taking(row_ids) as rows:
                _require_fit(rows)
                if rows:
                    await self._store.carry(rows)
        except StatementRefused as error:
            if len(row_ids) > 1:
                half = len(row_ids) // 2
                await self._carry_part(row_ids[:half])
                await self._carry_part(row_ids[half:])
                return
            told = {"id": row_ids[0], "error": str(error)}
            log.error("a row of the outbox beside the database cannot be carried; it waits apart", extra=told)
            await self._beside.refuse(row_ids[0], f"it cannot be carried ({reason_of(error)})")

    async def _look_elsewhere(self) -> None:
        below, forget = Look(LOOK_BELOW_S, self.look_below), Look(FORGET_EVERY_S, self.forget)
        while True:
            try:
                await below.again()
                await forget.again()
            except (StorageUnavailable, StatementRefused) as error:
                log.debug(
                    "the outbox beside the database was not looked through", extra={"error": str(error)}
                )
            await asyncio.sleep(LOOK_BELOW_S / 2)

    async def look_below(self) -> None:
        """Find what others left. Raises StorageUnavailable."""
        if self.is_away:
            return
        await self.passes.look_below()

    async def forget(self) -> None:
        """Forget rows that cannot come again, since they are there no more. Raises StorageUnavailable."""
        while not self.is_away and (carried := await self._store.carried(BATCH)):
            left = await self._beside.sizes(carried, refused=True)
            gone = [row_id for row_id in carried if row_id not in left]
            await self._carry_rows(sorted(left.items()))
            if gone:
                await self._store.forget(gone)
            else:
                return

    def _is_there(self) -> None:
        if self.is_away:
            log.warning("the outbox beside the database answers again", extra={"place": self._beside.place})
        self.is_away = False

    def _failed(self, error: Exception) -> None:
        if not self.is_away:
            told = {"place": self._beside.place, "error": str(error)}
            log.warning("the outbox beside the database does not answer; what it has waits", extra=told)
        self.is_away = True


def _require_fit(rows: Sequence[CarriedRow]) -> None:
    """Raises StatementRefused, as the database does, where one is none that a task can be made of."""
    for row in rows:
        reason = why_unfit(row.row_id, row.task, row.queue, row.run_at, row.options)
        if reason is not None:
            raise StatementRefused(ValueError(reason))


def _parts(sized: Sequence[tuple[TaskId, int]]) -> Iterator[list[TaskId]]:
    """Rows in parts that one statement stores."""
    part, size = list[TaskId](), 0
    for row_id, size_bytes in sized:
        if part and (size + size_bytes > _BATCH_BYTES or len(part) == BATCH):
            yield part
            part, size = [], 0
        part.append(row_id)
        size += size_bytes
    if part:
        yield part
