"""Bulk operations: stored so that any broker can go on with one."""

import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from hyrex_broker.domain.bulk import WORDS, BulkAction, BulkOperation, BulkState, from_words, to_words
from hyrex_broker.domain.ids import LAST
from hyrex_broker.domain.model import BrokerId, TaskId
from hyrex_broker.storage.cancel import CancelStore
from hyrex_broker.storage.pool import Database, Transaction
from hyrex_broker.storage.statements import load

_SQL: Final = load("bulk")
_QUEUES_BELOW: Final = load("workflows")["queues_below"]
NEWEST: Final = (datetime(9999, 1, 1, tzinfo=UTC), LAST)
SILENT_FOR: Final = timedelta(seconds=10)
"""A broker that has not moved an operation on for so long does not work on it any more."""


@dataclass(frozen=True, slots=True)
class Advance:
    """What a transaction did: how far it came (None: to the end), and with how many tasks."""

    cursor: TaskId | None
    matched: int
    done: int


class NotOursError(Exception):
    """The operation was stopped, or another broker works on it: the transaction was rolled back."""


@dataclass(slots=True)
class Step:
    """A transaction of an operation: acts on tasks, then says how far it came."""

    store: CancelStore
    progress: Advance = field(default_factory=lambda: Advance(None, 0, 0))


class BulkStore:
    """Statements of `bulk.sql`. Each method raises StorageUnavailable."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def begin(self, operation: BulkOperation) -> None:
        """Store an operation, unless its id is known."""
        await self._database.execute(
            _SQL["begin"],
            operation.operation_id,
            operation.who,
            operation.action.value,
            json.dumps(to_words(operation.selection)),
            operation.reason,
            operation.cursor,
        )
        await self._database.confirm()

    async def find(self, operation_id: str) -> BulkOperation | None:
        """One operation."""
        row = await self._database.fetchrow(_SQL["find"], operation_id, read=True)
        return None if row is None else _operation(row)

    async def page(self, before: tuple[datetime, str], size: int) -> list[BulkOperation]:
        """Up to `size` operations that started before this one, newest first."""
        rows = await self._database.fetch(_SQL["page"], *before, size, read=True)
        return [_operation(row) for row in rows]

    async def stop(self, operation_id: str) -> None:
        """Stop an operation, unless it has ended."""
        await self._database.execute(_SQL["stop"], operation_id)
        await self._database.confirm()

    async def take_up(self, broker: BrokerId) -> BulkOperation | None:
        """An operation that this broker now works on; None if there is none to take."""
        row = await self._database.fetchrow(_SQL["take_up"], broker, SILENT_FOR, WORDS)
        return None if row is None else _operation(row)

    async def queues_below(self, task_ids: Sequence[TaskId]) -> dict[TaskId, list[str]]:
        """Of those that are roots of workflows: the queues of their nodes."""
        rows = await self._database.fetch(_QUEUES_BELOW, sorted(set(task_ids)))
        return {TaskId(row["id"]): row["queues"] for row in rows}

    @asynccontextmanager
    async def step(self, operation: BulkOperation, broker: BrokerId) -> AsyncIterator[Step]:
        """A transaction in which tasks are acted on and the cursor moves, both or neither.

        Raises NotOursError where the operation is not this broker's any more.
        """
        async with self._database.transaction() as transaction:
            step = Step(CancelStore(transaction))
            yield step
            if not await _advanced(transaction, operation, broker, step.progress):
                raise NotOursError


async def _advanced(
    transaction: Transaction, operation: BulkOperation, broker: BrokerId, progress: Advance
) -> bool:
    row = await transaction.fetchrow(
        _SQL["advance"],
        operation.operation_id,
        broker,
        operation.cursor,
        progress.cursor or operation.cursor,
        progress.matched,
        progress.done,
        progress.cursor is None,
    )
    return row is not None


def _operation(row: Any) -> BulkOperation:
    return BulkOperation(
        operation_id=str(row["id"]),
        action=BulkAction(row["action"]),
        selection=from_words(json.loads(row["filter"])),
        reason=row["reason"],
        who=row["who"],
        state=BulkState(row["state"]),
        cursor=TaskId(str(row["cursor"])),
        matched=row["matched"],
        done=row["done"],
        started_at=row["started_at"],
        ended_at=row["ended_at"],
    )
