"""Cancels and retries that people ask for."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from hyrex_broker.domain.model import LaneId, SessionId, TaskId, Token
from hyrex_broker.storage.pool import Database, Transaction
from hyrex_broker.storage.statements import load
from hyrex_broker.storage.workflow_retries import put_back

_SQL: Final = load("cancel")
_STOPPED, _LEFT_OUT = (load("workflows")[name] for name in ("given_up", "left_out"))


@dataclass(frozen=True, slots=True)
class FoundByCancel:
    """A task that a cancel found: `token` and `session_id` are set if it runs."""

    task_id: TaskId
    token: Token | None
    session_id: SessionId | None
    lane: LaneId
    key: int | None = None
    """Of a blocked one: the concurrency key that it waited for."""
    nodes: Sequence[TaskId] | None = None
    """Of the root of a workflow, which ends when these have."""


@dataclass(frozen=True, slots=True)
class Standing:
    """The state of a task that a cancel did not find."""

    task_id: TaskId
    known: bool
    flagged: bool
    live: bool
    expired: bool
    """No run of it may begin any more."""


@dataclass(frozen=True, slots=True)
class Requeued:
    """A task that a retry made ready."""

    task_id: TaskId
    lane: LaneId
    rank: int
    is_blocked: bool = False
    """It is not ready yet: it must be followed."""


class CancelStore:
    """Statements of `cancel.sql`."""

    def __init__(self, database: Database | Transaction) -> None:
        self._database = database

    async def cancel(self, task_ids: Sequence[TaskId], reason: str) -> list[FoundByCancel]:
        """Cancel what waits, flag what runs; ids missing from the result: see `standing`."""
        rows = await self._database.fetch(_SQL["cancel"], sorted(set(task_ids)), reason)
        self._database.counters.cancelled(Counter(row["lane"] for row in rows if row["token"] is None))
        return [FoundByCancel(TaskId(str(row[0])), row[1], row[2], row[3]) for row in rows]

    async def cancel_blocked(self, task_ids: Sequence[TaskId], reason: str) -> list[FoundByCancel]:
        """Cancel what is blocked, of the tasks that `cancel` did not find."""
        rows = await self._database.fetch(_SQL["cancel_blocked"], sorted(set(task_ids)), reason)
        self._database.counters.cancelled(Counter(row["lane"] for row in rows if row["nodes"] is None))
        return [
            FoundByCancel(TaskId(str(row[0])), None, None, row[1], row[2], _nodes(row["nodes"]))
            for row in rows
        ]

    async def still_stopped(self, nodes: Sequence[TaskId]) -> list[TaskId]:
        """Those of these nodes that live, and whose workflow is still to be stopped."""
        rows = await self._database.fetch(_STOPPED, sorted(nodes)) if nodes else []
        return [TaskId(str(row["decided"])) for row in rows]

    async def cancel_wherever(self, task_ids: Sequence[TaskId], reason: str) -> list[FoundByCancel]:
        """Cancel what waits or is blocked, and flag what runs. What ceases to be blocked meanwhile is found
        too. Of workflows only the root is flagged: its nodes are cancelled when it is followed, since they
        may be a thousand times as many as one transaction is to hold."""
        found = await self.cancel(task_ids, reason)
        for look in (self.cancel_blocked, self.cancel):
            rest = [*{*task_ids} - {each.task_id for each in found}]
            found += await look(rest, reason) if rest else []
        return found

    async def standing(self, task_ids: Sequence[TaskId]) -> list[Standing]:
        """The present states of tasks."""
        rows = await self._database.fetch(_SQL["standing"], sorted(task_ids))
        await self._database.confirm()
        return [Standing(TaskId(str(row[0])), row[1], row[2], row[3], row[4]) for row in rows]

    async def retry(self, task_ids: Sequence[TaskId]) -> list[Requeued]:
        """Reopen ended tasks, of a workflow also what did not complete; ids missing from the result: see
        `standing` and `reopened`."""
        rows = await self._database.fetch(_SQL["retry"], sorted(set(task_ids)))
        found = [Requeued(TaskId(str(row[0])), row[1], row[2], row[3]) for row in rows]
        rest = {*task_ids} - {each.task_id for each in found}
        if rest:
            found += [Requeued(*each, True) for each in await put_back(self._database, list(rest))]
        return found

    async def dismiss(self, task_ids: Sequence[TaskId], who: str) -> set[TaskId]:
        """Dismiss dead letters; ids missing from the result are none, or unknown: see `standing`."""
        rows = await self._database.fetch(_SQL["dismiss"], sorted(set(task_ids)), who)
        await self._database.confirm()
        return {TaskId(str(row["id"])) for row in rows}

    async def reopened(self, task_ids: Sequence[TaskId]) -> set[TaskId]:
        """Those whose last end was reopened, by whomever; of roots not those of which only a node was."""
        rows = await self._database.fetch(_SQL["reopened"], sorted(task_ids))
        found = {TaskId(str(row["id"])) for row in rows if row["reopened"]}
        rows = await self._database.fetch(_LEFT_OUT, sorted(found)) if found else []
        return found - {TaskId(str(row["id"])) for row in rows}


def _nodes(found: Sequence[object] | None) -> list[TaskId] | None:
    return None if found is None else [TaskId(str(each)) for each in found]
