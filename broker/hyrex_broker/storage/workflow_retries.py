"""Puts ended nodes of workflows back, and their roots with them: `retry` of `workflows.sql`."""

from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import Any, Final

from hyrex_broker.domain.errors import StorageUnavailable
from hyrex_broker.domain.model import LaneId, TaskId
from hyrex_broker.domain.workflows import TaskKind
from hyrex_broker.storage.pool import Database, Transaction
from hyrex_broker.storage.statements import load

_SQL: Final = load("workflows")


AT_ONCE: Final = 2000
"""How many tasks one statement looks at, except for a larger workflow: the time of more than that grows with
their square."""
TOGETHER: Final = 12_000
"""How many tasks one transaction may look at: what it holds, others wait for."""


async def put_back(
    database: Database | Transaction, task_ids: Sequence[TaskId]
) -> list[tuple[TaskId, LaneId, int]]:
    """Reopen those of these tasks that are roots or nodes, and what is reopened with them; id, lane and rank
    of each. They are blocked until they are followed. What is missing has not ended, or its root has ended a
    moment ago: ask again. Raises StorageUnavailable; in a transaction also where fewer should be asked for,
    as one that ran into its timeout."""
    rows = await database.fetch(_SQL["family"], sorted(set(task_ids)))
    if isinstance(database, Transaction) and len(_ids(rows)) > TOGETHER:
        raise StorageUnavailable(f"workflows with more than {TOGETHER} tasks together", timed_out=True)
    found: list[tuple[TaskId, LaneId, int]] = []
    for portion in _portions(rows):
        found += await _put_back(database, portion)
    return found


async def _put_back(
    database: Database | Transaction, rows: Sequence[Any]
) -> list[tuple[TaskId, LaneId, int]]:
    found = await database.fetch(
        _SQL["retry"],
        sorted(_ids(rows)),
        [row["id"] for row in rows if row["kind"] != TaskKind.ROOT],
        [row["id"] for row in rows if row["kind"] == TaskKind.ROOT],
    )
    return [(TaskId(str(row["id"])), row["lane"], row["rank"]) for row in found]


def _portions(rows: Sequence[Any]) -> Iterator[list[Any]]:
    """Those of one workflow stay together: once a node is put back, its root is not asked for any more."""
    portion: list[Any] = []
    ids = set[str]()
    for _, group in groupby(sorted(rows, key=_root), key=_root):
        family = list(group)
        own = _ids(family)
        if portion and len(ids) + len(own) > AT_ONCE:
            yield portion
            portion, ids = [], set()
        portion += family
        ids |= own
    if portion:
        yield portion


def _root(row: Any) -> str:
    return str(row["root"])


def _ids(rows: Sequence[Any]) -> set[str]:
    return {str(each) for row in rows for each in (row["id"], row["root"], *(row["others"] or ()))}
