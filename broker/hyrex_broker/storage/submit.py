"""Storing tasks: one statement for a whole batch, a second one only for what it did not store."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import accumulate
from typing import Any, Final

from hyrex_broker.domain.keys import KeyHolder
from hyrex_broker.domain.model import LaneId, NewTask, TaskExtras, TaskId
from hyrex_broker.domain.states import standing
from hyrex_broker.storage.assign import Plan
from hyrex_broker.storage.columns import column, ids, integers, shared
from hyrex_broker.storage.pool import Database
from hyrex_broker.storage.statements import load

_SQL: Final = load("submit")
_NONE: Final = TaskExtras()


@dataclass(slots=True)
class Entry:
    """A task with its lane."""

    task: NewTask
    lane: LaneId


@dataclass(frozen=True, slots=True)
class StoredKey:
    """What was stored before under an id, and who holds its idempotency key."""

    digest: int | None
    holder: KeyHolder | None


@dataclass(frozen=True, slots=True)
class HandedOff:
    """The slot of each task stored now (None: it is ready), and the database's time."""

    slots: dict[TaskId, int | None]
    stored_at: datetime


class SubmitStore:
    """Statements of `submit.sql`."""

    def __init__(self, database: Database, slack_ms: int) -> None:
        """`slack_ms`: what a lease has beyond its run's timeout."""
        self._database = database
        self._slack_ms = slack_ms

    async def submit(self, entries: Sequence[Entry]) -> dict[TaskId, bool]:
        """Store entries (sorted by id, ids unique); return those stored now, and whether they wait.

        What is missing was stored before, or lost its idempotency key: see `classify`.
        """
        columns = _columns(entries)
        if all(entry.task.terms.extras is None for entry in entries):
            ((count, stored),) = await self._database.fetch(_SQL["submit"], *columns)
            if count == len(entries):
                return {entry.task.task_id: False for entry in entries}
            return dict.fromkeys(map(TaskId, stored or ()), False)
        rows = await self._database.fetch(_SQL["submit_unusual"], *columns, *_unusual_columns(entries))
        return {TaskId(row[0]): row[1] for row in rows}

    async def submit_handing_off(self, entries: Sequence[Entry], plan: Plan) -> HandedOff:
        """Store plain entries (sorted by id, ids unique); the plan's slots take the first of each lane."""
        ((slots, stored_at, stored),) = await self._database.fetch(
            _SQL["submit_handing_off"], *_columns(entries), *_slot_columns(plan), self._slack_ms
        )
        if slots is None:
            return HandedOff({}, stored_at)
        if stored is None:
            stored = [entry.task.task_id for entry in entries]
        return HandedOff(dict(zip(map(TaskId, stored), slots, strict=True)), stored_at)

    async def classify(self, entries: Sequence[Entry]) -> dict[TaskId, StoredKey]:
        """What is known of entries that were not stored."""
        keys = [extras.idempotency_key for extras in _extras(entries)]
        rows = await self._database.fetch(
            _SQL["classify"],
            [entry.task.task_id for entry in entries],
            [entry.task.terms.name for entry in entries],
            keys,
            [entry.task.payload if key else None for entry, key in zip(entries, keys, strict=True)],
        )
        return {TaskId(str(row["id"])): StoredKey(row["digest"], _holder(row)) for row in rows}


def _holder(row: Any) -> KeyHolder | None:
    if row["holder"] is None:
        return None
    state = standing(row["live"], row["run_number"], row["outcome"])
    return KeyHolder(TaskId(str(row["holder"])), state, row["differs"])


def _columns(entries: Sequence[Entry]) -> tuple[object, ...]:
    tasks = [entry.task for entry in entries]
    terms = [task.terms for task in tasks]
    return (
        ids([task.task_id for task in tasks]),
        shared([entry.lane for entry in entries]),
        shared([each.rank for each in terms]),
        shared([each.max_retries for each in terms]),
        column([each.timeout_ms for each in terms]),
        column([each.retry_delay_ms for each in terms]),
        integers([task.digest for task in tasks]),
        [task.payload for task in tasks],
        column([task.parent_id for task in tasks]),
        column([task.root_id for task in tasks]),
    )


def _slot_columns(plan: Plan) -> tuple[object, ...]:
    slots = [session for quota in plan.quotas for session in quota.slots]
    sessions = sorted(plan.generations)
    places = {session: place for place, session in enumerate(sessions, 1)}
    quotas = [len(quota.slots) for quota in plan.quotas]
    return (
        sessions,
        [plan.generations[session] for session in sessions],
        [plan.sequences[session] for session in sessions],
        plan.owner,
        [quota.lane for quota in plan.quotas],
        quotas,
        [0, *accumulate(quotas[:-1])],
        [mark for quota in plan.quotas for _, mark in quota.pairs],
        integers([1] if len(sessions) == 1 else [*map(places.__getitem__, slots)]),
        integers(plan.tokens),
    )


def _unusual_columns(entries: Sequence[Entry]) -> tuple[object, ...]:
    extras = _extras(entries)
    return (
        [extra.delay_ms for extra in extras],
        [extra.run_at for extra in extras],
        [extra.idempotency_key for extra in extras],
        [extra.content_type for extra in extras],
        [extra.codec for extra in extras],
        [json.dumps(extra.headers) if extra.headers else None for extra in extras],
        [json.dumps(extra.labels) if extra.labels else None for extra in extras],
        [entry.task.terms.name for entry in entries],
        column([extra.trace_context for extra in extras]),
    )


def _extras(entries: Sequence[Entry]) -> list[TaskExtras]:
    return [entry.task.terms.extras or _NONE for entry in entries]
