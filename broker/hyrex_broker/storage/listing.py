"""Lists of tasks, newest first, in bounded steps.

A filter that fits few of ten million tasks must not become a statement that reads them all. So each statement
reads a bounded number of rows of the table for that filter, and returns the rows that fit and how far it
read. A page ends when it is full, when there are no more rows, or when its time has passed (it may then be
short or even empty, and still have a next page).
"""

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final
from uuid import UUID

from hyrex_broker.domain.ids import lowest_id
from hyrex_broker.domain.model import LaneId, Outcome, TaskId
from hyrex_broker.domain.states import TaskState
from hyrex_broker.domain.views import Selection, TaskPage, TaskView
from hyrex_broker.storage.pool import Database
from hyrex_broker.storage.reads import IDS_PER_STATEMENT, LISTED, TaskReads
from hyrex_broker.storage.statements import load

_SQL: Final = load("reads")
_FIRST_LOOK: Final = 200
_LONGEST_LOOK: Final = 50_000
_TIME_BUDGET_S: Final = 1.5
_PAGE_BYTES: Final = 3 * 1024 * 1024
"""A page ends here as well: a message may have 16 MiB."""
_AT_A_TIME: Final = 50
_LOWEST: Final = lowest_id(0)
_HIGHEST: Final = TaskId(str(UUID(int=2**128 - 1)))

_BAD_ENDS: Final = {
    TaskState.FAILED: Outcome.FAILED,
    TaskState.TIMED_OUT: Outcome.TIMED_OUT,
    TaskState.CANCELLED: Outcome.CANCELLED,
    TaskState.LOST: Outcome.LOST,
}
_TABLES: Final = {
    TaskState.QUEUED: "scan_ready",
    TaskState.SCHEDULED: "scan_delayed",
    TaskState.RETRYING: "scan_delayed",
    TaskState.RUNNING: "scan_lease",
    TaskState.COMPLETED: "scan_completed",
}


@dataclass(frozen=True, slots=True)
class _Source:
    """A scan that finds candidates, with what it needs beside the range."""

    statement: str
    extra: tuple[object, ...] = ()

    @property
    def by_run(self) -> bool:
        """Several rows looked at may be of one task."""
        return self.statement in ("scan_completed", "scan_bad_end")


@dataclass(frozen=True, slots=True)
class _Range:
    """Ids below `before`, down to `floor`, of these lanes (None: any)."""

    before: TaskId
    floor: TaskId
    lanes: list[LaneId] | None


@dataclass(frozen=True, slots=True)
class _Candidates:
    """Ids that may fit, newest first, complete down to `cut` (None: to the end)."""

    ids: list[TaskId]
    cut: TaskId | None


class TaskLists:
    """Pages of tasks. Raises StorageUnavailable."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._reads = TaskReads(database)

    async def page(self, selection: Selection, before: TaskId | None, size: int) -> TaskPage:
        """Up to `size` tasks with ids below `before`, newest first, without payloads and results."""
        lanes = await self._lanes(selection)
        if lanes == []:
            return TaskPage([], None)
        sources = _sources(selection)
        where = _Range(_upper(selection, before), _floor(selection.created_after), lanes)
        tasks: list[TaskView] = []
        left_bytes = _PAGE_BYTES
        look, give_up = max(_FIRST_LOOK, size), time.monotonic() + _TIME_BUDGET_S
        while True:
            found = await self._candidates(sources, where, look, size)
            for ids in _parts(found.ids):
                fitting = await self._fitting(ids, selection)
                tasks += fitting
                left_bytes -= sum(view.size_bytes for view in fitting)
                if left_bytes < 0 and len(tasks) < size:
                    return TaskPage(tasks, ids[-1])
            if len(tasks) > size or (len(tasks) == size and found.cut is not None):
                return TaskPage(tasks[:size], tasks[size - 1].task_id)
            if found.cut is None or time.monotonic() > give_up:
                return TaskPage(tasks, found.cut)
            where = _Range(found.cut, where.floor, lanes)
            look = min(look * 8, _LONGEST_LOOK)

    async def _lanes(self, selection: Selection) -> list[LaneId] | None:
        if selection.queue is None and selection.name is None:
            return None
        rows = await self._database.fetch(_SQL["lanes_of"], selection.queue, selection.name, read=True)
        return [row["id"] for row in rows]

    async def _candidates(
        self, sources: Sequence[_Source], where: _Range, look: int, size: int
    ) -> _Candidates:
        found = [await self._scan(source, where, look, size) for source in sources]
        cut = max((candidates.cut for candidates in found if candidates.cut is not None), default=None)
        ids = {task_id for candidates in found for task_id in candidates.ids}
        newest = sorted((task_id for task_id in ids if cut is None or task_id >= cut), reverse=True)
        if len(newest) > IDS_PER_STATEMENT:
            newest = newest[:IDS_PER_STATEMENT]
            cut = newest[-1]
        return _Candidates(newest, cut)

    async def _scan(self, source: _Source, where: _Range, look: int, size: int) -> _Candidates:
        rows = await self._database.fetch(
            _SQL[source.statement],
            where.before,
            where.floor,
            where.lanes,
            look,
            size,
            *source.extra,
            read=True,
        )
        *fitting, last = rows
        ids = [TaskId(str(row["id"])) for row in fitting]
        if len(ids) == size:
            return _Candidates(ids, ids[-1])
        if last["looked_at"] < look:
            return _Candidates(ids, None)
        lowest = TaskId(str(last["id"]))
        return _Candidates(ids, _cut_above(lowest, where.before) if source.by_run else lowest)

    async def _fitting(self, ids: list[TaskId], selection: Selection) -> list[TaskView]:
        views = await self._reads.tasks(ids, LISTED)
        return [view for view in reversed(views) if _fits(view, selection)]


def _parts(ids: list[TaskId]) -> Iterable[list[TaskId]]:
    """Some at a time: labels are long where their sender wants it."""
    return (ids[place : place + _AT_A_TIME] for place in range(0, len(ids), _AT_A_TIME))


def _sources(selection: Selection) -> list[_Source]:
    if selection.parent_id is not None:
        return [_Source("scan_children", (selection.parent_id,))]
    if selection.root_id is not None:
        return [_Source("scan_tree", (selection.root_id,))]
    if not selection.states or len(selection.states) == len(TaskState):
        return [_Source("scan_task")]
    tables = {_TABLES[state] for state in selection.states if state in _TABLES}
    ends = [_BAD_ENDS[state] for state in selection.states if state in _BAD_ENDS]
    return [_Source(table) for table in sorted(tables)] + [
        _Source("scan_bad_end", (int(outcome),)) for outcome in ends
    ]


def _fits(task: TaskView, selection: Selection) -> bool:
    """What the scan did not decide already."""
    return (not selection.states or task.state in selection.states) and (
        selection.root_id is None or task.root_id == selection.root_id
    )


def _cut_above(lowest: TaskId, before: TaskId) -> TaskId:
    """Look at the lowest task again: some of its runs may lie beyond what was looked at."""
    above = TaskId(str(UUID(int=UUID(lowest).int + 1)))
    return above if above < before else lowest


def _upper(selection: Selection, before: TaskId | None) -> TaskId:
    bounds = [_HIGHEST if before is None else before]
    if selection.created_before is not None:
        bounds.append(_floor(selection.created_before))
    return min(bounds)


def _floor(moment: datetime | None) -> TaskId:
    return _LOWEST if moment is None else lowest_id(moment.timestamp())
