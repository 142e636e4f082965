"""A purge cancels what waited when it began, and ends, however much is submitted meanwhile."""

from collections.abc import Callable

import pytest

from hyrex_broker.domain.model import TaskExtras, TaskId
from hyrex_broker.domain.states import TaskState
from hyrex_broker.storage import queues
from hyrex_broker.storage.queues import QueueStore
from tests.integration.storage.stage import NewTask, Stage, new_task


def scheduled() -> NewTask:
    return new_task(extras=TaskExtras(delay_ms=60_000))


@pytest.mark.parametrize("make", [new_task, scheduled], ids=["at once", "later"])
async def test_a_purge_ends_though_its_queue_keeps_filling(
    stage: Stage, monkeypatch: pytest.MonkeyPatch, make: Callable[[], NewTask]
) -> None:
    monkeypatch.setattr(queues, "PURGE_CHUNK", 2)
    before = await stage.submit(*(make() for _ in range(5)))
    purged: list[TaskId] = []
    after: list[TaskId] = []
    store = QueueStore(stage.database)
    async for chunk in store.purge("default", "enough", await store.now()):
        purged += chunk
        after += await stage.submit(*(make() for _ in range(3)))
        assert len(purged) <= len(before)
    assert sorted(purged) == sorted(before)
    for task_id in after:
        assert await stage.state(task_id) in (TaskState.QUEUED, TaskState.SCHEDULED)
