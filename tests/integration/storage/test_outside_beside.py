"""Answers to one approval beside each other, and beside its cancel: one of them counts."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from hyrex_broker.domain.model import CompleteOutcome, Outcome, OutsideEnd, TaskExtras, TaskId
from hyrex_broker.engine.outside import OutsideCalls
from hyrex_broker.storage.outside import OutsideStore
from hyrex_broker.storage.statements import load
from tests.integration.storage.stage import Stage, new_task
from tests.integration.storage.waits import until_blocked

YES = OutsideEnd(Outcome.COMPLETED, b"true")
Answer = Callable[[Any, TaskId], Awaitable[Any]]


async def _answered(connection: Any, task_id: TaskId) -> None:
    await connection.fetch(
        load("outside")["complete"], [task_id], Outcome.FAILED, None, None, "Refused", "no", None, None
    )


async def _cancelled(connection: Any, task_id: TaskId) -> None:
    await connection.fetch(load("cancel")["cancel_blocked"], [task_id], "no more")


@pytest.mark.parametrize(
    ("first", "outcome"), [(_answered, Outcome.FAILED), (_cancelled, Outcome.CANCELLED)], ids=["no", "cancel"]
)
async def test_who_answers_beside_another_end_is_told_that_it_had_ended(
    stage: Stage, connection: Any, first: Answer, outcome: Outcome
) -> None:
    (task_id,) = await stage.submit(new_task(extras=TaskExtras(is_outside=True)))
    async with connection.transaction():
        await connection.execute("set search_path = hyrex")
        await first(connection, task_id)
        calls = OutsideCalls(OutsideStore(stage.database), stage.cancels)
        answering = asyncio.create_task(calls.complete([task_id], YES))
        await until_blocked(connection)
    assert await answering == [CompleteOutcome.FINISHED]
    assert [(run["outcome"], run["final"]) for run in await stage.runs(task_id)] == [(outcome, True)]
