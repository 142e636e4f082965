"""Reads tasks. In one statement, so from one snapshot, in which the state and the runs agree."""

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any, Final

from hyrex.runtime import patterns
from hyrex_broker.domain.errors import StorageUnavailable
from hyrex_broker.domain.long_work import in_portions
from hyrex_broker.domain.model import CARRIED, CarriedOptions, TaskId
from hyrex_broker.domain.progress import ProgressView
from hyrex_broker.domain.states import Live, cause_of, standing
from hyrex_broker.domain.views import (
    HolderView,
    ReplayedTask,
    RunConditions,
    RunStatusView,
    RunView,
    ServingSessions,
    TaskTimes,
    TaskView,
)
from hyrex_broker.storage.outbox_views import refused_tasks, waiting_queues, waiting_tasks
from hyrex_broker.storage.pool import Database
from hyrex_broker.storage.statements import load

_SQL: Final = load("reads")
_AWAITED, _QUEUES_BELOW = (load("workflows")[name] for name in ("awaited", "queues_below"))
IDS_PER_STATEMENT: Final = 1000
ROOTS_PER_STATEMENT: Final = 20
"""Whose nodes one statement reads: each may have 1,000."""
_NO_PROGRESS: Final = (
    "(select task_id, token, 0::float8 as done, 0::float8 as total, '' as text, now() as updated_at"
    " from lease where false) run_progress"
)
_ON_STANDBY: Final = _SQL["tasks"].replace("from run_progress", f"from {_NO_PROGRESS}")
"""How far runs are is in an unlogged table, which a standby neither has nor reads."""


@dataclass(frozen=True, slots=True)
class Detail:
    """How much of a task to read. Values above a limit are left out; of a message, its end is."""

    payload: bool
    result_limit_bytes: int
    runs: int
    traceback_limit_bytes: int
    message_characters: int
    labels_limit_bytes: int


_ALL: Final = 2**31 - 1
RUNS_BYTES: Final = 10 * 1024 * 1024
"""Of results, tracebacks and messages of one task: a message may have 16 MiB, and runs are without end."""
FULL: Final = Detail(True, _ALL, 1000, _ALL, _ALL, _ALL)
WATCHED: Final = Detail(False, 16 * 1024, 100, 4096, 4096, 4096)
WATCHED_WHOLE: Final = Detail(False, _ALL, 100, _ALL, _ALL, _ALL)
LISTED: Final = Detail(False, -1, 1, -1, 2000, _ALL)
FOUND: Final = Detail(False, -1, 1, -1, 0, _ALL)
"""For whoever looks for tasks and shows none of what they carry."""


class TaskReads:
    """Statements of `reads.sql`. Each raises StorageUnavailable.

    Tasks by id are read on the hot connections: index probes whatever the tables hold, and a plan that
    is made once (planning over the partitions takes some ten times as long as reading one task).
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    async def tasks(self, task_ids: Sequence[TaskId], detail: Detail) -> list[TaskView]:
        """Tasks by id, oldest first; unknown ids are missing. At most IDS_PER_STATEMENT ids.

        What is no task may be in the outbox, or in one beside this database, or was made a task since: rows
        go one way, so the last look is at the tasks again.
        """
        found = await self._stored(task_ids, detail)
        missing = {*task_ids} - {view.task_id for view in found}
        if not missing:
            return found
        found += await waiting_tasks(self._database, list(missing), with_payload=detail.payload)
        missing -= {view.task_id for view in found}
        if missing and self._database.bring is not None:
            await self._database.bring(list(missing))
            found += await waiting_tasks(self._database, list(missing), with_payload=detail.payload)
            missing -= {view.task_id for view in found}
            found += await refused_tasks(self._database, list(missing), with_payload=detail.payload)
            missing -= {view.task_id for view in found}
        found += await self._stored(list(missing), detail) if missing else []
        return sorted(found, key=lambda view: view.task_id)

    async def _stored(self, task_ids: Sequence[TaskId], detail: Detail) -> list[TaskView]:
        rows = await self._database.fetch(
            _ON_STANDBY if self._database.is_standby else _SQL["tasks"],
            sorted(task_ids),
            detail.payload,
            detail.result_limit_bytes,
            detail.runs,
            detail.traceback_limit_bytes,
            detail.message_characters,
            detail.labels_limit_bytes,
            RUNS_BYTES,
        )
        return list(_views(rows))

    async def task(self, task_id: TaskId) -> TaskView | None:
        """One task with its payload and all of its runs. Raises StorageUnavailable, too, if it may be in an
        outbox beside this database that is away."""
        views = await self.tasks([task_id], FULL)
        if not views:
            await self._require_all([task_id])
        return views[0] if views else None

    async def _require_all(self, missing: Sequence[TaskId]) -> None:
        if self._database.bring is not None and not await self._database.bring(missing):
            raise StorageUnavailable(
                f"no task {missing[0]} is here, and the database of the outbox, where it may be, is away"
            )

    async def to_replay(self, task_id: TaskId) -> ReplayedTask | None:
        """What another task like this one needs; None if it is unknown."""
        row = await self._database.fetchrow(_SQL["to_replay"], task_id)
        if row is None:
            return None
        carried = CarriedOptions(**{name: row[name] for name in CARRIED})
        own = {name: value for name, value in row.items() if name not in CARRIED}
        texts = {name: _texts(row[name]) or {} for name in ("headers", "labels")}
        return ReplayedTask(**{**own, **texts}, carried=carried)

    async def queues_of(self, task_ids: Sequence[TaskId]) -> dict[TaskId, str]:
        """The queues of tasks; unknown ids are missing."""
        found = await self._queues_of_stored(task_ids)
        missing = {*task_ids} - found.keys()
        if missing:
            found |= await waiting_queues(self._database, list(missing))
            missing -= found.keys()
        if missing and self._database.bring is not None:
            await self._require_all(list(missing))
            found |= await waiting_queues(self._database, list(missing))
            missing -= found.keys()
            refused = await refused_tasks(self._database, list(missing), with_payload=False)
            found |= {view.task_id: view.queue for view in refused}
            missing -= found.keys()
        return found | (await self._queues_of_stored(list(missing)) if missing else {})

    async def queues_below(self, task_ids: Sequence[TaskId]) -> dict[TaskId, list[str]]:
        """Of those that are roots of workflows: the queues of their nodes."""
        ids, found = sorted(set(task_ids)), dict[TaskId, list[str]]()
        for first in range(0, len(ids), ROOTS_PER_STATEMENT):
            rows = await self._database.fetch(_QUEUES_BELOW, ids[first : first + ROOTS_PER_STATEMENT])
            found |= {TaskId(row["id"]): row["queues"] for row in rows}
        return found

    async def _queues_of_stored(self, task_ids: Sequence[TaskId]) -> dict[TaskId, str]:
        rows = await self._database.fetch(_SQL["queues_of"], sorted(set(task_ids)))
        return {TaskId(str(row["id"])): row["queue"] for row in rows}

    async def times_of(self, task_id: TaskId, schedule: str | None) -> TaskTimes:
        """What else decides when a task runs; `schedule`: by its label."""
        row = await self._database.fetchrow(_SQL["times_of"], task_id, schedule, read=True)
        assert row is not None
        next_at = None if row["paused"] else row["next_at"]
        return TaskTimes(row["debounce_key"], row["latest_at"], row["schedule"], next_at)

    async def awaited(self, task_id: TaskId, most: int) -> list[str]:
        """The names of the nodes for which a root or a node still waits, up to so many."""
        return [row["name"] for row in await self._database.fetch(_AWAITED, task_id, most, read=True)]

    async def run_conditions(self, queue: str, name: str) -> RunConditions:
        """The conditions for tasks of this queue and name to run now."""
        around = await self._database.fetchrow(_SQL["run_conditions"], queue, name, read=True)
        assert around is not None
        services = await self._database.fetch(_SQL["services"], name, read=True)
        return RunConditions(
            paused=around["paused"],
            queue_limit=around["queue_limit"],
            queue_running=around["queue_running"],
            task_limit=around["task_limit"],
            task_running=around["task_running"],
            queue_token_at=around["queue_token_at"],
            task_token_at=around["task_token_at"],
            queue_rate=tuple(around["queue_rate"] or ()),
            task_rate=tuple(around["task_rate"] or ()),
            services=tuple(
                [
                    ServingSessions(patterns.known(tuple(row["queue_patterns"]))(queue), row["knows_task"])
                    async for row in in_portions(services, 1)
                ]
            ),
        )

    async def holders(self, scope: str, name: str, most: int) -> list[HolderView]:
        """Tasks that run under a limit (scope "queue" or "task"), the longest first."""
        rows = await self._database.fetch(_SQL["holders"], scope, name, most, read=True)
        return [_holder(row) for row in rows]

    async def key_holders(self, task_id: TaskId, most: int) -> tuple[str, int, list[HolderView]]:
        """The concurrency key of a task (empty: none), its maximum, and tasks that have its seats."""
        rows = await self._database.fetch(_SQL["key_holders"], task_id, most, read=True)
        if not rows:
            return "", 0, []
        holders = [_holder(row) for row in rows if row["task_id"] is not None]
        return rows[0]["concurrency_key"], rows[0]["max_per_key"], holders


def _holder(row: Any) -> HolderView:
    return HolderView(
        TaskId(str(row["task_id"])), row["name"], row["queue"], row["worker"], row["assigned_at"]
    )


def _views(rows: Iterable[Any]) -> Iterator[TaskView]:
    for _, of_task in groupby(rows, key=lambda row: row["id"]):
        yield _view(list(of_task))


def _view(rows: list[Any]) -> TaskView:
    first = rows[0]
    return TaskView(
        task_id=TaskId(str(first["id"])),
        name=first["name"],
        queue=first["queue"],
        rank=first["rank"],
        max_retries=first["max_retries"],
        timeout_ms=first["timeout_ms"],
        state=standing(first["live"], first["live_run_number"], rows[-1]["outcome"]),
        parent_id=_optional_id(first["parent_id"]),
        root_id=_optional_id(first["root_id"]),
        submitted_at=first["submitted_at"],
        run_at=first["run_at"],
        cancel_requested=bool(first["cancel_requested"]),
        carried=CarriedOptions(**{name: first[name] for name in CARRIED}),
        idempotency_key=first["idempotency_key"],
        labels=_texts(first["labels"]) or {},
        labels_left_out_bytes=first["labels_left_out_bytes"],
        payload=first["payload"],
        headers=_texts(first["headers"]),
        dismissed=first["live"] is None and bool(rows[-1]["dismissed"]),
        trace_context=first["trace_context"],
        expires_at=first["expires_at"],
        runs=tuple(_runs(rows)),
        concurrency_key=first["concurrency_key"],
        max_per_key=first["max_per_key"] or 0,
        fair_key=first["fair_key"],
        is_outside=first["is_outside"],
        node=first["node"] or "",
        workflow_nodes=first["workflow_nodes"] or 0,
    )


def _runs(rows: list[Any]) -> Iterator[RunView]:
    for row in rows:
        if row["run_number"] is not None:
            yield _ended_run(row)
    if rows[0]["live"] == Live.LEASE:
        yield _running_run(rows[0])


def _ended_run(row: Any) -> RunView:
    return RunView(
        run_number=row["run_number"],
        attempt_number=row["attempt_number"],
        state=RunStatusView(row["outcome"]),
        started_at=row["started_at"],
        finished_at=row["finished_at"],
        worker=row["worker"] or "",
        result=row["result"],
        result_size_bytes=row["result_size_bytes"],
        content_type=row["result_content_type"],
        error_type=row["error_type"],
        error_place=row["error_place"],
        error_message=row["error_message"],
        traceback=row["traceback"],
        text_left_out_bytes=row["text_left_out_bytes"],
        reason=row["reason"],
        cause=cause_of(row["outcome"], row["cause"]),
    )


def _running_run(row: Any) -> RunView:
    return RunView(
        run_number=row["live_run_number"],
        attempt_number=row["live_attempt_number"],
        state=RunStatusView.RUNNING,
        started_at=row["assigned_at"],
        worker=row["live_worker"] or "",
        progress=_progress(row),
    )


def _progress(row: Any) -> ProgressView | None:
    if row["progress_at"] is None:
        return None
    return ProgressView(row["done"], row["total"], row["progress_text"], row["progress_at"])


def _optional_id(value: object) -> TaskId | None:
    return None if value is None else TaskId(str(value))


def _texts(value: str | None) -> dict[str, str] | None:
    if value is None:
        return None
    texts: dict[str, str] = json.loads(value)
    return texts
