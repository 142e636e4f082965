"""What brokers tell each other of ended tasks: names, not "something has changed"."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing

import pytest

from hyrex_broker.domain.model import Outcome, TaskId
from hyrex_broker.domain.states import TaskState
from hyrex_broker.domain.views import TaskView
from hyrex_broker.engine import watches as watch
from hyrex_broker.engine.cluster import notifications
from hyrex_broker.engine.cluster.notifications import FINISHED, Notifications
from hyrex_broker.storage.brokers import Channel
from hyrex_broker.storage.reads import Detail, TaskReads
from tests.integration.engine.bench import Bench, running_engine
from tests.integration.storage.stage import end_of, make_id, new_task

WITHIN_S = 60.0


@pytest.fixture
async def bench(storage_url: str) -> AsyncIterator[Bench]:
    """Nobody renews its sessions, and brokers that hear of each other late must not find them expired."""
    async with running_engine(storage_url, lease_s=2 * WITHIN_S) as bench:
        yield bench


async def test_an_end_elsewhere_is_read_by_its_name_and_nothing_else_is(
    storage_url: str, bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watch, "_ROUND_S", 3600.0)
    read: list[TaskId] = []
    tasks = TaskReads.tasks

    async def noted(self: TaskReads, task_ids: Sequence[TaskId], detail: Detail) -> list[TaskView]:
        read.extend(task_ids)
        return await tasks(self, task_ids, detail)

    _, link = await bench.worker()
    await bench.submit([new_task() for _ in range(4)])
    *watched, unrelated = await link.until_runs(4)
    bench.engine.notifications.others_watch = True
    ids = [run.task_id for run in watched]
    async with (
        running_engine(storage_url) as other,
        aclosing(other.engine.watches.watch(ids)) as frames,
    ):
        await asyncio.wait_for(anext(frames), WITHIN_S)
        await _heard(bench, other)
        monkeypatch.setattr(TaskReads, "tasks", noted)
        for run in (unrelated, watched[0]):
            await bench.report([end_of(run, Outcome.COMPLETED)])
        (view,) = await asyncio.wait_for(anext(frames), WITHIN_S)
        assert (view.task_id, view.state) == (watched[0].task_id, TaskState.COMPLETED)
    assert read == [watched[0].task_id]


async def _heard(speaker: Bench, listener: Bench) -> None:
    """Wait until the other one listens, and has heard the last word of this wait."""
    heard: set[str] = set()
    on_finished = listener.engine.notifications.on_finished
    listener.engine.notifications.on_finished = lambda task_ids: heard.update(task_ids or ())
    async with asyncio.timeout(WITHIN_S):
        while not heard:
            last = TaskId(make_id())
            speaker.engine.notifications.tell_finished([last])
            await asyncio.sleep(0.05)
        while last not in heard:
            await asyncio.sleep(0.01)
    listener.engine.notifications.on_finished = on_finished


class Noted(Channel):
    """A channel that writes down what is said."""

    def __init__(self) -> None:
        super().__init__("postgres://nowhere")
        self.told: list[str] = []

    async def tell(self, name: str, text: str) -> None:
        assert name == FINISHED
        assert len(text) < 8000, "what fits into a notification"
        self.told.append(text)


async def test_ids_fit_into_notifications_and_too_many_are_one_word() -> None:
    channel = Noted()
    words = Notifications(channel)
    words.others_watch = True
    speaking = asyncio.ensure_future(words._speak())
    few = [TaskId(make_id()) for _ in range(1000)]
    words.tell_finished(few)
    async with asyncio.timeout(WITHIN_S):
        while sum(len(text.split(",")) for text in channel.told) < len(few):
            await asyncio.sleep(0.01)
        assert sorted(word for text in channel.told for word in text.split(",")) == sorted(few)
        channel.told.clear()
        words.tell_finished(TaskId(f"{number:036}") for number in range(notifications._MOST_IDS + 1))
        while not channel.told:
            await asyncio.sleep(0.01)
    assert channel.told == [""]
    speaking.cancel()
