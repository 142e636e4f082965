"""A submit that is given up while the database is away."""

import asyncio
from collections.abc import Hashable, Sequence

import pytest

from hyrex.v1 import task_pb2, task_service_pb2
from hyrex_broker.domain.blocks import TaskBlock
from hyrex_broker.domain.errors import StorageUnavailable
from hyrex_broker.engine.submit.answers import Others
from hyrex_broker.engine.submit.intake import Intake
from hyrex_broker.service.submit import SubmitChecker
from hyrex_broker.storage.availability import Availability
from hyrex_broker.storage.reads import TaskReads
from tests.integration.engine.bench import Bench
from tests.integration.storage.stage import make_id


async def test_a_database_lost_again_while_a_submit_is_being_given_up_harms_nobody(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    given_up, may_end = asyncio.Event(), asyncio.Event()

    async def stuck(
        self: Intake, blocks: Sequence[TaskBlock], caller: Hashable, *, has_little: bool
    ) -> list[Others]:
        try:
            await asyncio.Event().wait()
        finally:
            given_up.set()
            await may_end.wait()
        return []

    monkeypatch.setattr(Intake, "_submit", stuck)
    availability = Availability()
    checker = SubmitChecker(bench.engine.intake, 1000, availability, TaskReads(bench.database))
    availability.unanswered("lost")
    task = task_pb2.NewTask(task_id=make_id(), name="work", queue="default")
    results = task_service_pb2.SubmitTasksResponse().results
    submitting = asyncio.ensure_future(checker.submit([task], results, 0.01))
    await asyncio.wait_for(given_up.wait(), 60)
    availability.answered()
    assert availability.unanswered("lost again")
    may_end.set()
    with pytest.raises(StorageUnavailable, match="lost again"):
        await submitting
