"""Refused rows of an outbox, for people: of the broker's database, or of one beside it."""

from collections.abc import Awaitable, Callable, Collection, Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Any, Final

from hyrex_broker.domain.model import TaskId
from hyrex_broker.domain.outbox import RefusedRow, RowChange
from hyrex_broker.storage.cluster import RefusedInQueue
from hyrex_broker.storage.pool import Database
from hyrex_broker.storage.statements import load

_SQL: Final = load("refused")
_DISCARD: Final = load("outbox")["discard"]
_OPTIONS_BYTES: Final = 16 * 1024
PAYLOAD_BYTES: Final = 4 * 1024 * 1024
DEFAULT_QUEUE: Final = "default"


class RefusedStore:
    """Statements of `refused.sql` for one database, through which `fetch` runs them. Each raises
    StorageUnavailable."""

    def __init__(self, fetch: Callable[..., Awaitable[list[Any]]], *, beside: bool) -> None:
        self._fetch = fetch
        self._beside = beside

    async def page(self, before: TaskId, most: int) -> list[RefusedRow]:
        """The newest ones before an id."""
        rows = await self._fetch(_SQL["page"], before, most, _OPTIONS_BYTES)
        return [self._row(row) for row in rows]

    async def of_ids(self, row_ids: Sequence[TaskId], *, with_payload: bool = False) -> list[RefusedRow]:
        """Those of these rows that are refused. A payload that is too large for an answer is None."""
        longest = PAYLOAD_BYTES if with_payload else -1
        rows = await self._fetch(_SQL["of_ids"], sorted(row_ids), _OPTIONS_BYTES, longest)
        return [self._row(row) for row in rows]

    async def change(self, row_id: TaskId, change: RowChange) -> bool:
        """Give a refused row other content; False if there is none now. Raises StatementRefused."""
        wanted = change.queue, change.payload, change.options, change.run_at, change.delay
        return bool(await self._fetch(_SQL["change"], row_id, *wanted))

    async def dismiss(self, row_ids: Sequence[TaskId]) -> set[TaskId]:
        """Remove refused rows. Return the ids of those that were still there."""
        return {TaskId(str(row["id"])) for row in await self._fetch(_DISCARD, sorted(row_ids))}

    async def count(self, most: int) -> int:
        """How many there are, counted up to `most`."""
        return int((await self._fetch(_SQL["count"], most))[0]["count"])

    async def by_queue(self, most: int) -> list[tuple[str, RefusedInQueue]]:
        """The newest `most` by queue, and by the task (else empty) of those that name no queue."""
        return [
            (
                row["task"] or "",
                RefusedInQueue(row["queue"] or "", row["count"], row["since"], row["reason"], self._beside),
            )
            for row in await self._fetch(_SQL["by_queue"], most)
        ]

    async def forget_past(self, keep: timedelta, most: int) -> list[TaskId]:
        """Remove up to `most` rows that were refused longer ago than `keep`. Return their ids."""
        return [TaskId(str(row["id"])) for row in await self._fetch(_SQL["past"], keep, most)]

    def _row(self, row: Any) -> RefusedRow:
        return RefusedRow(
            TaskId(str(row["id"])),
            row["task"],
            row["queue"] or "",
            row["reason"] or "",
            row["enqueued_at"],
            row["held_at"],
            row["size_bytes"],
            row["options"],
            row["payload"],
            self._beside,
        )


async def with_queues(database: Database, rows: Sequence[RefusedRow]) -> list[RefusedRow]:
    """Rows with the queues that their tasks would be in. A row of a database beside may name none; then the
    task's definition does, which is here. Raises StorageUnavailable."""
    queues = await _queues(database, {row.task for row in rows if not row.queue})
    return [row if row.queue else replace(row, queue=queues.get(row.task, DEFAULT_QUEUE)) for row in rows]


async def queues_with_refused(
    database: Database, found: Sequence[tuple[str, RefusedInQueue]]
) -> list[RefusedInQueue]:
    """What `by_queue` found, with the queues that the tasks would be in. Raises StorageUnavailable."""
    queues = await _queues(database, {task for task, rows in found if not rows.queue})
    return [
        rows if rows.queue else replace(rows, queue=queues.get(task, DEFAULT_QUEUE)) for task, rows in found
    ]


async def _queues(database: Database, names: Collection[str]) -> dict[str, str]:
    """The queues of tasks by their definitions."""
    rows = await database.fetch(_SQL["queues"], sorted(names)) if names else []
    return {row["name"]: row["queue"] for row in rows}
