"""Ends tasks that wait for a call from outside."""

from collections import Counter
from collections.abc import Sequence
from typing import Final

from hyrex_broker.domain.model import LaneId, OutsideEnd, TaskId
from hyrex_broker.storage.pool import Database
from hyrex_broker.storage.statements import load

_SQL: Final = load("outside")


class OutsideStore:
    """Statements of `outside.sql`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def complete(self, task_ids: Sequence[TaskId], end: OutsideEnd) -> dict[TaskId, LaneId]:
        """End those of these tasks that wait for it; which ended, and their lanes. Raises StorageUnavailable,
        StatementRefused."""
        rows = await self._database.fetch(
            _SQL["complete"],
            sorted(set(task_ids)),
            end.outcome,
            end.result,
            end.content_type,
            end.error_type,
            end.error_message,
            end.traceback,
            end.reason or None,
        )
        for lane, count in Counter(row["lane"] for row in rows).items():
            for _ in range(count):
                self._database.counters.run_ended(lane, end.outcome, final=True)
        return {TaskId(str(row["task_id"])): row["lane"] for row in rows}
