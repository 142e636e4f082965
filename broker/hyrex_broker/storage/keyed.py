"""Stores tasks with concurrency keys; see `submit_keyed` and `submit_keyed_handing_off` (sql/submit.sql)."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Final

from hyrex_broker.domain.blocks import TaskBatch, stretched
from hyrex_broker.domain.ids import HexId
from hyrex_broker.domain.model import TaskExtras, TaskId
from hyrex_broker.storage.assign import Plan
from hyrex_broker.storage.columns import integers, shared
from hyrex_broker.storage.pool import Database
from hyrex_broker.storage.sqlstates import StatementRefused
from hyrex_broker.storage.statements import load
from hyrex_broker.storage.submit import (
    HandedOff,
    is_repetition,
    slot_columns,
    task_columns,
    waiting_columns,
)

_SQL: Final = load("submit")
_NONE: Final = TaskExtras()
_ATTEMPTS: Final = 5
MOST_MARKS: Final = 50_000
"""Of so many keys the marks are kept, some 6 MB; the oldest goes first."""


class Placing(IntEnum):
    """What became of a task. Numbers are those of `admit`: READY has a seat and may be leased at once, LATER
    waits for its time."""

    LATER = 0
    READY = 1
    BLOCKED = 2
    REFUSED = 3


@dataclass(frozen=True, slots=True)
class Admitted:
    """What became of a task, and of a refused one: who holds its key."""

    admission: Placing
    holder: TaskId | None = None

    @property
    def is_refused(self) -> bool:
        """Return True if it was not stored."""
        return self.admission is Placing.REFUSED


class KeyMarks:
    """The newest mark of each key by its hash; see `admit` (migrations/0001_first.sql). 0: none is known."""

    def __init__(self) -> None:
        self._marks: dict[int, int] = {}

    def of(self, hashes: Sequence[int]) -> list[int]:
        """The mark of each of these keys."""
        return [self._marks.get(each, 0) for each in hashes]

    def note(self, hashes: Iterable[int], marks: Iterable[int | None]) -> None:
        """Note what a statement has answered; None where it said nothing of a key."""
        known = self._marks
        for key, mark in zip(hashes, marks, strict=True):
            if mark is not None:
                known[key] = max(mark, known.pop(key, 0))
        while len(known) > MOST_MARKS:
            del known[next(iter(known))]


class KeyedStore:
    """The statements of `submit.sql` for tasks with concurrency keys."""

    def __init__(self, database: Database, slack_ms: int) -> None:
        """`slack_ms`: what a lease has beyond its run's timeout."""
        self._database = database
        self.counters = database.counters
        self._slack_ms = slack_ms
        self._marks = KeyMarks()

    async def submit_handing_off(
        self, batch: TaskBatch, hashes: Sequence[int], plan: Plan, slots: Sequence[int | None]
    ) -> HandedOff | None:
        """Store tasks that may run at once, and lease those that have a seat to the plan's slots: see
        `SubmitStore.submit_handing_off` and `submit`. None: nothing was done, since another has locked their
        keys for longer than a moment."""
        columns = (*task_columns(batch), *slot_columns(plan, slots), self._slack_ms)
        ((unleased, stored_at, admissions, holders, marks),) = await self._database.fetch_apart(
            _SQL["submit_keyed_handing_off"], *columns, *_key_columns(batch, hashes), self._marks_of(hashes)
        )
        if admissions is None:
            return None
        self._marks.note(hashes, marks)
        return HandedOff(unleased, stored_at, admissions, holders)

    async def submit(self, batch: TaskBatch, hashes: Sequence[int]) -> dict[HexId, Admitted]:
        """Store tasks in the order of their ids, which are unique; each has a concurrency key, and its hash.

        What is missing from the result was stored before, or its idempotency key belongs to another. Raises
        StorageUnavailable, StatementRefused.
        """
        keys = (*_key_columns(batch, hashes), self._marks_of(hashes))
        columns = (*task_columns(batch), *waiting_columns(batch), *keys)
        for attempt in range(1, _ATTEMPTS + 1):
            try:
                rows = await self._database.fetch_apart(_SQL["submit_keyed"], *columns)
                break
            except StatementRefused as error:
                # Somebody has stored one of them since the statement began: the next one sees it.
                if not is_repetition(error) or attempt == _ATTEMPTS:
                    raise
        of_ids = dict(zip(batch.ids, hashes, strict=True))
        self._marks.note([of_ids[HexId(row[0])] for row in rows], [row[3] for row in rows])
        return {
            HexId(row[0]): Admitted(
                Placing(row[1] or Placing.LATER), None if row[2] is None else TaskId(row[2])
            )
            for row in rows
        }

    def _marks_of(self, hashes: Sequence[int]) -> str:
        return integers(self._marks.of(hashes))


def _key_columns(batch: TaskBatch, hashes: Sequence[int]) -> tuple[object, ...]:
    count = len(batch)
    extras = [each.extras or _NONE for each in batch.terms]
    refusing = [each.refuses_to_wait for each in extras]
    return (
        stretched(batch.concurrency_keys, count),
        integers(hashes),
        shared([each.max_per_key for each in extras]),
        stretched(refusing, count) if any(refusing) else None,
    )
