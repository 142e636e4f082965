"""Puts ended nodes of workflows back, and their roots with them: `retry` of `workflows.sql`."""

from collections.abc import Sequence
from typing import Final

from hyrex_broker.domain.model import LaneId, TaskId
from hyrex_broker.domain.workflows import TaskKind
from hyrex_broker.storage.pool import Database, Transaction
from hyrex_broker.storage.statements import load

_SQL: Final = load("workflows")


async def put_back(
    database: Database | Transaction, task_ids: Sequence[TaskId]
) -> list[tuple[TaskId, LaneId, int]]:
    """Reopen those of these tasks that are roots or nodes, and what is reopened with them; id, lane and rank
    of each. They are blocked until they are followed. What is missing has not ended, or its root has ended a
    moment ago: ask again."""
    rows = await database.fetch(_SQL["family"], sorted(set(task_ids)))
    if not rows:
        return []
    family = {str(each) for row in rows for each in (row["id"], row["root"], *(row["others"] or ()))}
    found = await database.fetch(
        _SQL["retry"],
        sorted(family),
        [row["id"] for row in rows if row["kind"] != TaskKind.ROOT],
        [row["id"] for row in rows if row["kind"] == TaskKind.ROOT],
    )
    return [(TaskId(str(row["id"])), row["lane"], row["rank"]) for row in found]
