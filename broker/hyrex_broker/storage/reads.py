"""Reads tasks. In one statement, so from one snapshot, in which the state and the runs agree."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from hyrex.runtime import patterns
from hyrex_broker.domain.errors import StorageUnavailable
from hyrex_broker.domain.long_work import in_portions
from hyrex_broker.domain.model import CARRIED, CarriedOptions, TaskId
from hyrex_broker.domain.views import (
    HolderView,
    ReplayedTask,
    RunConditions,
    ServingSessions,
    TaskTimes,
    TaskView,
)
from hyrex_broker.storage.outbox_views import refused_tasks, waiting_queues, waiting_tasks
from hyrex_broker.storage.pool import Database
from hyrex_broker.storage.statements import load
from hyrex_broker.storage.task_rows import holder_of, texts_of, views_of

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
        return list(views_of(rows))

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
        texts = {name: texts_of(row[name]) or {} for name in ("headers", "labels")}
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
        return [holder_of(row) for row in rows]

    async def key_holders(self, task_id: TaskId, most: int) -> tuple[str, int, list[HolderView]]:
        """The concurrency key of a task (empty: none), its maximum, and tasks that have its seats."""
        rows = await self._database.fetch(_SQL["key_holders"], task_id, most, read=True)
        if not rows:
            return "", 0, []
        holders = [holder_of(row) for row in rows if row["task_id"] is not None]
        return rows[0]["concurrency_key"], rows[0]["max_per_key"], holders
