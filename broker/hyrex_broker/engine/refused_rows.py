"""Refused rows of the outboxes, for people: they are listed, tried again (also with a change) and removed.

A row is either in the outbox here or in the one beside the database, if there is one; whoever asks by an id
need not know in which. What was refused longer ago than bad ends are kept is removed (rule 31).
"""

import asyncio
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from hyrex_broker.domain.errors import StorageUnavailable
from hyrex_broker.domain.ids import LAST
from hyrex_broker.domain.model import TaskId
from hyrex_broker.domain.outbox import HeldBack, OutboxRow, RefusedRow, RetryRowOutcome, RowChange
from hyrex_broker.engine.beside import Carrier
from hyrex_broker.engine.outbox import OutboxRelay
from hyrex_broker.storage.cluster import RefusedInQueue
from hyrex_broker.storage.pool import Database
from hyrex_broker.storage.reads import TaskReads
from hyrex_broker.storage.refused import RefusedStore, queues_with_refused, with_queues
from hyrex_broker.storage.sqlstates import StatementRefused

log = logging.getLogger(__name__)

LOOK_EVERY_S: Final = 60.0
MOST_COUNTED: Final = 10_000
_AT_ONCE: Final = 1000
OWN: Final = "brokers"
BESIDE: Final = "beside"


@dataclass(frozen=True, slots=True)
class RefusedPage:
    """Rows, the newest first. `is_whole`: the database beside has answered, if there is one."""

    rows: list[RefusedRow]
    is_whole: bool


class RefusedRows:
    """Those of both outboxes. Raises StorageUnavailable."""

    def __init__(
        self, database: Database, relay: OutboxRelay, carrier: Carrier | None, keep: timedelta
    ) -> None:
        self._database = database
        self._own = RefusedStore(database.fetch, beside=False)
        self._relay = relay
        self._carrier = carrier
        self._keep = keep
        self._reads = TaskReads(database)
        self.counts: dict[str, int] = {}
        """How many there were at the last look, by the outbox."""
        self.beside: list[RefusedInQueue] = []
        """The newest ones of the database beside at the last look."""

    async def run(self) -> None:
        """Count them, and remove what is past its term, until cancelled."""
        while True:
            await self.look()
            await asyncio.sleep(LOOK_EVERY_S)

    async def look(self) -> None:
        """Count them once, and remove what is past its term, as far as the databases answer."""
        for name, store in self._stores().items():
            try:
                await self._forget_past(store)
                self.counts[name] = await store.count(MOST_COUNTED)
            except (StorageUnavailable, StatementRefused) as error:
                log.debug("refused rows could not be looked at", extra={"error": str(error)})
        await self._look_beside()

    async def _look_beside(self) -> None:
        """See in which queues tasks are missing, as far as the database beside answers."""
        if self._carrier is None:
            return
        try:
            found = await self._carrier.refused.by_queue(_AT_ONCE)
            self.beside = await queues_with_refused(self._database, found)
        except (StorageUnavailable, StatementRefused) as error:
            log.debug("refused rows beside could not be looked at", extra={"error": str(error)})

    async def page(self, before: TaskId | None, most: int) -> RefusedPage:
        """The newest rows before an id, or of all, at most so many."""
        first = before or LAST
        rows, is_whole = await self._own.page(first, most), True
        if self._carrier is not None:
            try:
                rows += await self._carrier.refused.page(first, most)
            except StorageUnavailable:
                is_whole = False
        rows.sort(key=lambda row: row.row_id, reverse=True)
        return RefusedPage(await with_queues(self._database, rows[:most]), is_whole)

    async def of_ids(self, row_ids: Sequence[TaskId]) -> dict[TaskId, RefusedRow]:
        """Those of these rows that are refused, by id. Raises StorageUnavailable also where one may be in the
        database beside, and that one does not answer."""
        found = {row.row_id: row for row in await self._own.of_ids(row_ids)}
        missing = [row_id for row_id in row_ids if row_id not in found]
        if missing and self._carrier is not None:
            beside = await self._carrier.refused.of_ids(missing)
            found |= {row.row_id: row for row in await with_queues(self._database, beside)}
        return found

    async def change(self, row: RefusedRow, change: RowChange) -> bool:
        """Give a row other content; False if it is refused no more. Raises StatementRefused."""
        store = self._carrier.refused if row.beside and self._carrier is not None else self._own
        return await store.change(row.row_id, change)

    async def retry(self, rows: Sequence[RefusedRow]) -> dict[TaskId, tuple[RetryRowOutcome, str]]:
        """What became of each, and why it was refused again."""
        outcomes: dict[TaskId, tuple[RetryRowOutcome, str]] = {}
        if self._carrier is not None and (beside := [row.row_id for row in rows if row.beside]):
            await self._carrier.retry(beside)
            for row in await self._carrier.refused.of_ids(beside):
                outcomes[row.row_id] = RetryRowOutcome.REFUSED, row.reason
            await self._look_beside()
        here = [row.row_id for row in rows if row.row_id not in outcomes]
        left = await self._relay.retry(here) if here else {}
        gone = [row_id for row_id in here if row_id not in left]
        # What is in the outbox no longer is a task, unless somebody has removed it meanwhile.
        tasks = await self._reads.queues_of(gone) if gone else {}
        for row_id in gone:
            is_task = row_id in tasks
            outcomes[row_id] = RetryRowOutcome.RELAYED if is_task else RetryRowOutcome.NOT_FOUND, ""
        return outcomes | {row_id: _outcome(row) for row_id, row in left.items()}

    async def dismiss(self, rows: Sequence[RefusedRow]) -> set[TaskId]:
        """Remove rows. Return the ids of those that were still there."""
        gone = await self._own.dismiss([row.row_id for row in rows if not row.beside])
        if self._carrier is not None and any(row.beside for row in rows):
            gone |= await self._carrier.refused.dismiss([row.row_id for row in rows if row.beside])
            await self._look_beside()
        return gone

    def _stores(self) -> dict[str, RefusedStore]:
        own = {OWN: self._own}
        return own if self._carrier is None else own | {BESIDE: self._carrier.refused}

    async def _forget_past(self, store: RefusedStore) -> None:
        while gone := await store.forget_past(self._keep, _AT_ONCE):
            told = {"count": len(gone), "first": gone[0], "days": self._keep.days}
            log.warning("refused rows of the outbox are past their term and were removed", extra=told)


def _outcome(row: OutboxRow) -> tuple[RetryRowOutcome, str]:
    if row.held is HeldBack.REFUSED:
        return RetryRowOutcome.REFUSED, row.reason or ""
    return RetryRowOutcome.WAITING, ""
