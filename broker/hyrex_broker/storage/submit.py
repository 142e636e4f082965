"""Stores tasks: one statement for a whole batch, and a second one only for those that it did not store."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from json.encoder import encode_basestring_ascii as _quoted
from typing import Any, Final, TypeVar

from hyrex_broker.domain.blocks import TaskBatch, stretched
from hyrex_broker.domain.ids import HexId
from hyrex_broker.domain.keys import KeyHolder
from hyrex_broker.domain.model import CARRIED, LaneId, SessionId, TaskExtras, TaskId
from hyrex_broker.domain.states import standing
from hyrex_broker.domain.workflows import TaskKind
from hyrex_broker.storage.assign import Plan
from hyrex_broker.storage.columns import ids, integers, shared, texts
from hyrex_broker.storage.pool import Database
from hyrex_broker.storage.sqlstates import StatementRefused
from hyrex_broker.storage.statements import load

Value = TypeVar("Value")

_SQL: Final = load("submit")
_NONE: Final = TaskExtras()
_UNIQUE_VIOLATION: Final = "23505"


@dataclass(frozen=True, slots=True)
class StoredKey:
    """The digest of what was stored before under an id, and who holds its idempotency key; None: nobody."""

    digest: int | None
    holder: KeyHolder | None


@dataclass(frozen=True, slots=True)
class HandedOff:
    """The lanes of which no task was leased (see `submit_handing_off`), and the database's time.

    Of tasks with concurrency keys, in their order: what became of each (numbers of `keyed.Placing`), and who
    holds the keys of those that were refused; both None of other tasks.
    """

    unleased: Collection[LaneId]
    stored_at: datetime
    admissions: Sequence[int] | None = None
    holders: Sequence[TaskId | None] | None = None


class SubmitStore:
    """Statements of `submit.sql`. Batches are in the order of their ids, which are unique."""

    def __init__(self, database: Database, slack_ms: int) -> None:
        """`slack_ms`: what a lease has beyond its run's timeout."""
        self._database = self.database = database
        self.counters = database.counters
        self._slack_ms = slack_ms

    async def submit(self, batch: TaskBatch) -> Sequence[HexId]:
        """Store tasks that may run at once; return the ids of those stored now.

        The others were stored before: see `classify`.
        """
        columns, lanes = task_columns(batch), lanes_of(batch)
        try:
            await self._database.fetch(_SQL["submit"], *columns, lanes)
        except StatementRefused as error:
            if not is_repetition(error):
                raise
        else:
            return batch.ids
        ((stored,),) = await self._database.fetch(_SQL["submit_again"], *columns, lanes)
        return stored or ()

    async def submit_waiting(self, batch: TaskBatch) -> dict[HexId, bool]:
        """Store tasks with keys, delays or run times, or that no worker runs; return those stored now, and
        whether they wait.

        What is missing was stored before, or lost its key: see `classify`.
        """
        rows = await self._database.fetch(
            _SQL["submit_waiting"], *task_columns(batch), *waiting_columns(batch), _kinds(batch)
        )
        return {HexId(row[0]): row[1] for row in rows}

    async def submit_handing_off(
        self, batch: TaskBatch, plan: Plan, slots: Sequence[int | None]
    ) -> HandedOff:
        """Store tasks that may run at once, and lease them to the plan's slots: `slots` has that of each, by
        its number (None: it is ready).

        Raises StatementRefused: where `is_repetition`, some were stored before.
        """
        ((unleased, stored_at),) = await self._database.fetch(
            _SQL["submit_handing_off"],
            *task_columns(batch),
            *slot_columns(plan, slots),
            self._slack_ms,
            lanes_of(batch),
        )
        return HandedOff(unleased, stored_at)

    async def classify(self, batch: TaskBatch) -> list[StoredKey]:
        """What is known of tasks that were not stored, one for each; ids may come several times."""
        count = len(batch)
        keys = stretched(batch.keys or [None], count)
        rows = await self._database.fetch(
            _SQL["classify"],
            ids(batch.ids),
            [terms.name for terms in stretched(batch.terms, count)],
            keys,
            [payload if key else None for payload, key in zip(batch.payloads, keys, strict=True)],
        )
        known = [StoredKey(row["digest"], _holder(row)) for row in rows]
        if any(each.digest is not None or each.holder is not None for each in known):
            await self._database.confirm()  # what stands there may have been committed by another
        return known


def is_repetition(error: StatementRefused) -> bool:
    """Return True if a statement was refused since it would store what is stored."""
    return error.sqlstate == _UNIQUE_VIOLATION


def _holder(row: Any) -> KeyHolder | None:
    if row["holder"] is None:
        return None
    state = standing(row["live"], row["run_number"], row["outcome"])
    return KeyHolder(TaskId(str(row["holder"])), state, row["differs"])


def task_columns(batch: TaskBatch) -> tuple[object, ...]:
    """The parameters $1..$16 of all submits."""
    terms, count = batch.terms, len(batch)
    extras = [each.extras or _NONE for each in terms]
    labels = each_or_none([_json(each.labels) if each.labels else None for each in extras], count)
    return (
        ids(batch.ids),
        batch.lanes,
        shared([each.rank for each in terms]),
        shared([each.max_retries for each in terms]),
        each_or_none([each.timeout_ms for each in terms], count),
        each_or_none([each.retry_delay_ms for each in terms], count),
        integers(batch.digests),
        batch.payloads,
        each_or_none(batch.parents, count),
        each_or_none(batch.roots, count),
        *[each_or_none([getattr(each.carried, name) for each in extras], count) for name in CARRIED],
        texts([_json(each) if each else None for each in batch.headers]) if batch.headers else None,
        None if labels is None else texts(labels),
        batch.trace_contexts or None,
        batch.fair_keys or None,
    )


def lanes_of(batch: TaskBatch) -> Sequence[LaneId]:
    """The lanes of a batch, each once."""
    return batch.lanes if len(batch.lanes) == 1 else sorted(set(batch.lanes))


def _json(texts: Mapping[str, str]) -> str:
    """A JSON object, at two fifths of what `json.dumps` costs."""
    return f"{{{','.join([f'{_quoted(key)}:{_quoted(value)}' for key, value in texts.items()])}}}"


def each_or_none(values: Sequence[Value], count: int) -> Sequence[Value] | None:
    """A column that may hold nulls: a value for each task, or null."""
    return None if values.count(None) == len(values) else stretched(values, count)


def slot_columns(plan: Plan, slots: Sequence[int | None]) -> tuple[object, ...]:
    """The parameters $17..$25 of submits that hand off."""
    sessions = sorted(plan.generations)
    return (
        sessions,
        [plan.generations[session] for session in sessions],
        [plan.sequences[session] for session in sessions],
        plan.owner,
        [quota.lane for quota in plan.quotas],
        shared([mark for quota in plan.quotas for _, mark in quota.pairs]),
        integers([None if slot is None else plan.tokens[slot] for slot in slots]),
        integers([1] if len(sessions) == 1 else _places(plan, sessions, slots)),
        None in slots,
    )


def _places(plan: Plan, sessions: Sequence[SessionId], slots: Sequence[int | None]) -> list[int | None]:
    """The place of each slot's session."""
    places = {session: place for place, session in enumerate(sessions, 1)}
    of_slots = [places[session] for quota in plan.quotas for session in quota.slots]
    return [None if slot is None else of_slots[slot] for slot in slots]


def _kinds(batch: TaskBatch) -> Sequence[int | None] | None:
    outside = [each.extras is not None and each.extras.is_outside for each in batch.terms]
    return each_or_none([TaskKind.OUTSIDE if each else None for each in outside], len(batch))


def waiting_columns(batch: TaskBatch) -> tuple[object, ...]:
    """The parameters $17..$21 of tasks that may wait."""
    count = len(batch)
    terms = stretched(batch.terms, count)
    extras = [each.extras or _NONE for each in terms]
    return (
        [each.delay_ms for each in extras],
        [each.run_at for each in extras],
        stretched(batch.keys, count),
        [each.name for each in terms],
        each_or_none([each.expires_in_ms for each in extras], count),
    )
