"""Lists of tasks, newest first, in bounded steps.

A filter that fits few of ten million tasks must not become a statement that reads them all. So each statement
reads a bounded number of rows of the table for that filter, and returns the rows that fit and how far it
read. A page ends when it is full, when there are no more rows, or when its time has passed (it may then be
short or even empty, and still have a next page).
"""

import json
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Final
from uuid import UUID

from hyrex.runtime import patterns
from hyrex_broker.domain.errors import StorageUnavailable
from hyrex_broker.domain.ids import lowest_id
from hyrex_broker.domain.long_work import in_portions
from hyrex_broker.domain.model import LaneId, Outcome, TaskId
from hyrex_broker.domain.selection import Check, Selection, like
from hyrex_broker.domain.states import TaskState
from hyrex_broker.domain.views import TaskPage, TaskView
from hyrex_broker.storage.pool import Database
from hyrex_broker.storage.reads import FOUND, IDS_PER_STATEMENT, Detail, TaskReads
from hyrex_broker.storage.statements import load

_SQL: Final = load("reads")
_FIRST_LOOK: Final = 200
_LONGEST_LOOK: Final = 50_000
_TIME_BUDGET_S: Final = 1.5
_PAGE_BYTES: Final = 3 * 1024 * 1024
"""A page ends here as well: a message may have 16 MiB."""
_AT_A_TIME: Final = 50
_FEW_LABELLED: Final = 10_001
"""So many tasks of a day may have some labels if they are found by the index of labels: it knows no order."""
SETTINGS_BY_LABELS: Final = (
    "enable_seqscan = off",
    "enable_indexscan = off",
    "plan_cache_mode = force_custom_plan",
    "statement_timeout = '1s'",
)
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
    TaskState.BLOCKED: "scan_blocked",
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
    """Ids below `before`, down to `floor`, of these lanes (None: any), with these labels (None: any)."""

    before: TaskId
    floor: TaskId
    lanes: list[LaneId] | None
    labels: str | None = None


@dataclass(frozen=True, slots=True)
class _Candidates:
    """Ids that may fit, newest first, complete down to `cut` (None: to the end)."""

    ids: list[TaskId]
    cut: TaskId | None


@dataclass(slots=True)
class _Page:
    """A page that is being filled, until it is full, too large, or its time is over."""

    size: int
    give_up: float
    tasks: list[TaskView] = field(default_factory=list)
    left_bytes: int = _PAGE_BYTES

    def add(self, fitting: list[TaskView]) -> None:
        """Take more tasks, the next older ones."""
        self.tasks += fitting
        self.left_bytes -= sum(view.size_bytes for view in fitting)

    def full_at(self, cut: TaskId | None) -> TaskPage | None:
        """The page if it has what it may have; `cut`: where the search has come to, None: to its end."""
        if len(self.tasks) > self.size or (len(self.tasks) == self.size and cut is not None):
            return TaskPage(self.tasks[: self.size], self.tasks[self.size - 1].task_id)
        return None

    def over_at(self, cut: TaskId | None) -> TaskPage | None:
        """The page if the search is at its end or its time is over."""
        if cut is None or time.monotonic() > self.give_up:
            return TaskPage(self.tasks, cut)
        return None


class TaskLists:
    """Pages of tasks. Raises StorageUnavailable."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._reads = TaskReads(database)

    async def page(
        self,
        selection: Selection,
        before: TaskId | None,
        size: int,
        sees: Callable[[str], bool] | None = None,
        detail: Detail = FOUND,
    ) -> TaskPage:
        """Up to `size` tasks with ids below `before`, newest first, without payloads and results; with
        `sees`, only those of queues that it is true of. `detail`: LISTED or FOUND."""
        selection = selection.with_usual_states()
        if selection.within:
            sees = patterns.known(selection.within)
        lanes = await self._lanes(selection, sees)
        if lanes == []:
            return TaskPage([], None)
        labels = json.dumps(dict(selection.labels)) if selection.labels else None
        where = _Range(_upper(selection, before), _lowest(selection), lanes, labels)
        page = _Page(size, time.monotonic() + _TIME_BUDGET_S)
        sources, check = _sources(selection), Check(selection)
        look = max(_FIRST_LOOK, size)
        while True:
            rare = labels is not None and look >= _LONGEST_LOOK
            found = await self._by_labels(where, size) if rare else None
            found = found or await self._candidates(sources, where, look, size)
            for ids in _parts(found.ids):
                page.add(await self._fitting(ids, check, detail))
                if page.left_bytes < 0 and len(page.tasks) < size:
                    return TaskPage(page.tasks, ids[-1])
            ended = page.full_at(found.cut) or page.over_at(found.cut)
            if ended is not None:
                return ended
            assert found.cut is not None  # else the page is over
            where = replace(where, before=found.cut)
            look = min(look * 8, _LONGEST_LOOK)

    async def count(
        self, selection: Selection, most: int, sees: Callable[[str], bool] | None = None
    ) -> tuple[int, TaskId | None]:
        """How many tasks fit, up to `most`; and the id below which nothing was looked at (None: all was).
        With `sees`, only those of queues that it is true of."""
        give_up, before, found = time.monotonic() + _TIME_BUDGET_S, None, 0
        while True:
            page = await self.page(selection, before, min(most - found, IDS_PER_STATEMENT), sees)
            found, before = found + len(page.tasks), page.before
            if before is None or found >= most or time.monotonic() > give_up:
                return found, before

    async def _by_labels(self, where: _Range, size: int) -> _Candidates | None:
        """Candidates of the newest day by the index of labels; None where they are many, or take long to
        find: then a walk finds them soon."""
        first = await self._database.fetchrow(_SQL["first_id"], read=True)
        if first is None:
            return _Candidates([], None)
        bottom = max(where.floor, TaskId(str(first["id"])))
        day = max(bottom, _day_of(where.before))
        try:
            async with self._database.transaction(read=True) as transaction:
                # Other plans would walk; the walk is bounded, and it has been done.
                await transaction.set_local(SETTINGS_BY_LABELS)
                rows = await transaction.fetch(
                    _SQL["scan_labelled"], where.before, day, where.lanes, _FEW_LABELLED, size, where.labels
                )
        except StorageUnavailable as error:
            if not error.timed_out:
                raise
            return None
        *fitting, last = rows
        if last["looked_at"] >= _FEW_LABELLED:
            return None
        ids = [TaskId(str(row["id"])) for row in fitting]
        if len(ids) == size:
            return _Candidates(ids, ids[-1])
        return _Candidates(ids, day if day > bottom else None)

    async def _lanes(self, selection: Selection, sees: Callable[[str], bool] | None) -> list[LaneId] | None:
        queues = [like(pattern) for pattern in selection.queues] or None
        names = [like(pattern) for pattern in selection.names] or None
        if (selection.queue, selection.name, queues, names, sees) == (None, None, None, None, None):
            return None
        rows = await self._database.fetch(
            _SQL["lanes_of"], selection.queue, selection.name, queues, names, read=True
        )
        return [row["id"] async for row in in_portions(rows) if sees is None or sees(row["queue"])]

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
            where.labels,
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

    async def _fitting(self, ids: list[TaskId], check: Check, detail: Detail) -> list[TaskView]:
        views = await self._reads.tasks(ids, detail)
        return [view for view in reversed(views) if check.fits(view)]


def _parts(ids: list[TaskId]) -> Iterable[list[TaskId]]:
    """Some at a time: labels are long where their sender wants it."""
    return (ids[place : place + _AT_A_TIME] for place in range(0, len(ids), _AT_A_TIME))


def _sources(selection: Selection) -> list[_Source]:
    if selection.parent_id is not None:
        return [_Source("scan_children", (selection.parent_id,))]
    if selection.root_id is not None:
        return [_Source("scan_tree", (selection.root_id,))]
    if selection.workflows:
        return [_Source("scan_workflows")]
    if not selection.states or len(selection.states) == len(TaskState):
        return [_Source("scan_task")]
    tables = {_TABLES[state] for state in selection.states if state in _TABLES}
    ends = [_BAD_ENDS[state] for state in selection.states if state in _BAD_ENDS]
    errors = [like(pattern) for pattern in selection.error_types] or None
    return [_Source(table) for table in sorted(tables)] + [
        _Source("scan_bad_end", (int(outcome), errors, selection.dead)) for outcome in ends
    ]


def _cut_above(lowest: TaskId, before: TaskId) -> TaskId:
    """Look at the lowest task again: some of its runs may lie beyond what was looked at."""
    above = TaskId(str(UUID(int=UUID(lowest).int + 1)))
    return above if above < before else lowest


def _upper(selection: Selection, before: TaskId | None) -> TaskId:
    bounds = [_HIGHEST if before is None else before]
    if selection.created_before is not None:
        bounds.append(lowest_id(selection.created_before.timestamp()))
    if selection.older_than_s is not None:
        bounds.append(lowest_id(time.time() - selection.older_than_s))
    return min(bounds)


def _lowest(selection: Selection) -> TaskId:
    bounds = [lowest_id(0)]
    if selection.created_after is not None:
        bounds.append(lowest_id(selection.created_after.timestamp()))
    if selection.younger_than_s is not None:
        bounds.append(lowest_id(time.time() - selection.younger_than_s))
    return max(bounds)


def _day_of(before: TaskId) -> TaskId:
    """The first id of the day (UTC) of the ids just below this one, or of tomorrow where that is later."""
    tomorrow = time.time() + 86_400
    newest_s = min((UUID(before).int - 1 >> 80) / 1000, tomorrow)
    return lowest_id(newest_s // 86_400 * 86_400)
