"""Stores tasks with debounce keys, or moves the tasks that wait for the same keys."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from hyrex_broker.domain.blocks import TaskBatch, stretched
from hyrex_broker.domain.ids import HexId
from hyrex_broker.domain.keys import KeyHit, KeyHolder
from hyrex_broker.domain.model import SubmitOutcome, TaskId
from hyrex_broker.domain.states import TaskState
from hyrex_broker.storage.columns import ids
from hyrex_broker.storage.pool import Database, Transaction
from hyrex_broker.storage.statements import load
from hyrex_broker.storage.submit import each_or_none, task_columns

_SQL: Final = load("submit")


@dataclass(frozen=True, slots=True)
class Debounced:
    """What became of tasks with debounce keys. What is in neither was stored before."""

    stored: set[HexId]
    moved: Mapping[HexId, KeyHit]
    """Not stored: another one waits anew."""


class DebounceStore:
    """The statements `submit_debounced` and `move_debounced` of `submit.sql`."""

    def __init__(self, database: Database | Transaction) -> None:
        self._database = database

    async def submit(self, batch: TaskBatch) -> Debounced:
        """Store tasks, each with a delay and a debounce key; ids are unique and in order."""
        rows = await self._database.fetch(
            _SQL["submit_debounced"], *task_columns(batch), *_key_columns(batch)
        )
        return Debounced({HexId(row[0]) for row in rows if row[1] is None}, _moved(rows))

    async def move(self, batch: TaskBatch) -> Mapping[HexId, KeyHit]:
        """Move the tasks that wait for the keys of these, and store none. Return those that moved one."""
        return _moved(
            await self._database.fetch(
                _SQL["move_debounced"], ids(batch.ids), batch.payloads, *_key_columns(batch)
            )
        )


def _key_columns(batch: TaskBatch) -> tuple[object, ...]:
    count = len(batch)
    terms = stretched(batch.terms, count)
    extras = [each.extras for each in terms]
    return (
        [each.delay_ms if each else None for each in extras],
        each_or_none([each.debounce_most_ms if each else None for each in extras], count),
        [each.queue for each in terms],
        [each.name for each in terms],
        [each.debounce_key if each else None for each in extras],
    )


def _moved(rows: Iterable[Any]) -> dict[HexId, KeyHit]:
    return {
        HexId(digits): KeyHit(
            TaskId(holder),
            SubmitOutcome.DEDUPLICATED,
            KeyHolder(TaskId(holder), TaskState.SCHEDULED, bool(differs)),
        )
        for digits, holder, differs in rows
        if holder is not None
    }
