"""Watchers get every task's state, every change that lasts, and every end, read together."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing, asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from hyrex_broker.domain.errors import NoSuchTask, QuotaExceeded, StorageUnavailable
from hyrex_broker.domain.model import CarriedOptions, TaskId
from hyrex_broker.domain.states import TaskState
from hyrex_broker.domain.views import RunStatusView, RunView, TaskView
from hyrex_broker.engine import watch_room
from hyrex_broker.engine import watches as watch
from hyrex_broker.engine.watches import FRAME_BYTES, Watches
from hyrex_broker.storage.reads import Detail
from tests.support.loops import end

A, B, C = (TaskId(f"{letter}" * 8) for letter in "abc")
NOW = datetime.now(UTC)


def view(task_id: TaskId, state: TaskState, result: bytes | None = None) -> TaskView:
    runs: tuple[RunView, ...] = ()
    if state.final:
        runs = (
            RunView(
                0, 0, RunStatusView.COMPLETED, NOW, NOW, result=result, result_size_bytes=len(result or b"")
            ),
        )
    return TaskView(
        task_id=task_id,
        name="greet",
        queue="default",
        rank=5,
        max_retries=0,
        timeout_ms=None,
        state=state,
        parent_id=None,
        root_id=None,
        submitted_at=NOW,
        run_at=None,
        cancel_requested=False,
        carried=CarriedOptions(),
        idempotency_key=None,
        labels={},
        payload=None,
        headers=None,
        runs=runs,
    )


def test_the_type_of_an_error_counts_in_the_size_of_a_task() -> None:
    plain = view(A, TaskState.FAILED)
    (run,) = plain.runs
    typed = replace(plain, runs=(replace(run, error_type="E" * 255),))
    assert typed.size_bytes - plain.size_bytes == 255


class Table:
    """States that a test sets, and what was read of them."""

    def __init__(self, *views: TaskView) -> None:
        self.views = {each.task_id: each for each in views}
        self.reads: list[list[TaskId]] = []
        self.failures = 0
        self.most = 1000
        self._begun = asyncio.Condition()
        self.gate = asyncio.Event()
        self.gate.set()

    def set(self, *views: TaskView) -> None:
        self.views |= {each.task_id: each for each in views}

    async def begun(self, count: int) -> None:
        """Wait until so many reads have begun."""
        async with self._begun:
            await self._begun.wait_for(lambda: len(self.reads) >= count)

    async def tasks(self, task_ids: Sequence[TaskId], detail: Detail) -> list[TaskView]:
        async with self._begun:
            self.reads.append(list(task_ids))
            self._begun.notify_all()
        found = [self.views[task_id] for task_id in task_ids if task_id in self.views]
        await self.gate.wait()
        if self.failures:
            self.failures -= 1
            raise StorageUnavailable("away")
        if len(task_ids) > self.most:
            raise StorageUnavailable("too much", timed_out=True)
        return [_within(each, detail) for each in found]


def _within(each: TaskView, detail: Detail) -> TaskView:
    runs = tuple(
        replace(run, result=None) if len(run.result or b"") > detail.result_limit_bytes else run
        for run in each.runs
    )
    return replace(each, runs=runs)


@asynccontextmanager
async def watching(table: Table) -> AsyncIterator[Watches]:
    watches = Watches(table)
    running = asyncio.create_task(watches.run())
    try:
        yield watches
    finally:
        await end(running)


async def states(frames: Any) -> dict[TaskId, TaskState]:
    frame = await asyncio.wait_for(anext(frames), 60)
    return {each.task_id: each.state for each in frame}


async def test_a_watcher_gets_the_states_then_the_changes_and_ends_when_all_are_final() -> None:
    table = Table(view(A, TaskState.QUEUED), view(B, TaskState.COMPLETED))
    async with watching(table) as watches, aclosing(watches.watch([A, B])) as frames:
        assert await states(frames) == {A: TaskState.QUEUED, B: TaskState.COMPLETED}
        table.set(view(A, TaskState.RUNNING))
        watches.touch([A])
        assert await states(frames) == {A: TaskState.RUNNING}
        table.set(view(A, TaskState.COMPLETED))
        watches.touch([A])
        assert await states(frames) == {A: TaskState.COMPLETED}
        with pytest.raises(StopAsyncIteration):
            await anext(frames)
        assert not watches.active


async def test_an_end_that_comes_while_the_first_state_is_read_is_not_missed() -> None:
    table = Table(view(A, TaskState.QUEUED))
    table.gate.clear()
    async with watching(table) as watches, aclosing(watches.watch([A])) as frames:
        first = asyncio.create_task(states(frames))
        await table.begun(1)
        table.set(view(A, TaskState.COMPLETED))
        watches.touch([A])
        table.gate.set()
        told = [await first]
        if told != [{A: TaskState.COMPLETED}]:
            told.append(await states(frames))
        assert told[-1] == {A: TaskState.COMPLETED}


async def test_what_is_touched_during_a_read_is_read_in_one_statement_for_all_watchers() -> None:
    table = Table(*(view(each, TaskState.QUEUED) for each in (A, B, C)))
    async with (
        watching(table) as watches,
        aclosing(watches.watch([A, B])) as one,
        aclosing(watches.watch([B, C])) as other,
    ):
        await asyncio.gather(states(one), states(other))
        table.reads.clear()
        table.gate.clear()
        table.set(*(view(each, TaskState.RUNNING) for each in (A, B, C)))
        watches.touch([A])
        await table.begun(1)
        watches.touch([B])
        watches.touch([C, B])
        table.gate.set()
        assert await states(other) == {B: TaskState.RUNNING, C: TaskState.RUNNING}
        assert table.reads == [[A], [B, C]]


async def test_a_touch_of_what_nobody_watches_reads_nothing() -> None:
    table = Table(view(A, TaskState.QUEUED))
    async with watching(table) as watches, aclosing(watches.watch([A])) as frames:
        await states(frames)
        watches.touch([B, C])
        watches.touch_all()
        table.set(view(A, TaskState.COMPLETED))
        watches.touch([A])
        await states(frames)
        assert {task_id for batch in table.reads for task_id in batch} == {A}


async def test_an_unchanged_state_is_not_told_again() -> None:
    table = Table(view(A, TaskState.QUEUED), view(B, TaskState.QUEUED))
    async with watching(table) as watches, aclosing(watches.watch([A, B])) as frames:
        await states(frames)
        table.set(view(B, TaskState.RUNNING))
        watches.touch_all()
        assert await states(frames) == {B: TaskState.RUNNING}


async def test_a_slow_reader_gets_only_the_newest_state() -> None:
    table = Table(view(A, TaskState.QUEUED))
    async with watching(table) as watches, aclosing(watches.watch([A])) as frames:
        await states(frames)
        for state in (TaskState.RUNNING, TaskState.RETRYING, TaskState.QUEUED, TaskState.COMPLETED):
            reads = len(table.reads)
            table.set(view(A, state))
            watches.touch([A])
            await table.begun(reads + 1)
        assert await states(frames) == {A: TaskState.COMPLETED}


async def test_an_unknown_task_ends_the_watch() -> None:
    table = Table(view(A, TaskState.QUEUED))
    async with watching(table) as watches, aclosing(watches.watch([A, B])) as frames:
        with pytest.raises(NoSuchTask, match=B):
            _ = [frame async for frame in frames]
        assert not watches.active


async def test_a_caller_that_leaves_is_forgotten() -> None:
    table = Table(view(A, TaskState.QUEUED))
    async with watching(table) as watches:
        async with aclosing(watches.watch([A])) as frames:
            await states(frames)
            assert watches.active
        assert not watches.active


async def test_a_change_in_another_broker_is_seen_by_the_slow_round(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watch, "_ROUND_S", 0.01)
    table = Table(view(A, TaskState.QUEUED))
    async with watching(table) as watches, aclosing(watches.watch([A])) as frames:
        await states(frames)
        table.set(view(A, TaskState.COMPLETED))
        assert await states(frames) == {A: TaskState.COMPLETED}


async def test_a_database_that_returns_is_read_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watch, "_REPEAT_AFTER_S", 0.01)
    table = Table(view(A, TaskState.COMPLETED))
    table.failures = 3
    async with watching(table) as watches, aclosing(watches.watch([A])) as frames:
        assert await states(frames) == {A: TaskState.COMPLETED}


async def test_large_results_come_in_frames_of_their_own() -> None:
    large = b"x" * (FRAME_BYTES // 2)
    table = Table(*(view(each, TaskState.COMPLETED, large) for each in (A, B, C)))
    async with watching(table) as watches, aclosing(watches.watch([A, B, C])) as frames:
        received = [frame async for frame in frames]
    assert [len(frame) for frame in received] == [1, 1, 1]
    assert all(frame[0].runs[0].result == large for frame in received)


async def test_more_ids_than_one_statement_takes_are_read_in_several() -> None:
    ids = [TaskId(f"{number:036d}") for number in range(2500)]
    table = Table(*(view(each, TaskState.COMPLETED) for each in ids))
    async with watching(table) as watches, aclosing(watches.watch(ids)) as frames:
        received = [each.task_id async for frame in frames for each in frame]
    assert sorted(received) == ids
    assert [len(batch) for batch in table.reads] == [1000, 1000, 500]


async def test_what_takes_too_long_to_read_together_is_read_in_smaller_portions(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(watch, "_REPEAT_AFTER_S", 0.001)
    ids = [TaskId(f"{number:036d}") for number in range(1000)]
    table = Table(*(view(each, TaskState.COMPLETED) for each in ids))
    table.most = 300
    async with watching(table) as watches, aclosing(watches.watch(ids)) as frames:
        async with asyncio.timeout(60):
            received = [each.task_id async for frame in frames for each in frame]
    assert sorted(received) == ids
    assert [len(batch) for batch in table.reads] == [1000, 500, 250, 275, 302, 151, 166, 158]


async def test_a_single_task_is_not_read_behind_all_that_a_bulk_has_touched() -> None:
    crowd = [TaskId(f"crowd-{number}") for number in range(5000)]
    table = Table(*(view(each, TaskState.QUEUED) for each in (*crowd, A)))
    async with watching(table) as watches, aclosing(watches.watch(crowd)) as bulk:
        await states(bulk)
        await table.begun(5)
        async with aclosing(watches.watch([A])) as single:
            await states(single)
            table.reads.clear()
            table.gate.clear()
            watches.touch(crowd)
            await table.begun(1)
            table.set(view(A, TaskState.COMPLETED))
            watches.touch([A])
            table.gate.set()
            assert await states(single) == {A: TaskState.COMPLETED}
            assert A in table.reads[1], "in the statement that follows the one under way"


async def test_a_bulk_is_read_although_single_tasks_are_touched_all_the_time() -> None:
    crowd = [TaskId(f"crowd-{number}") for number in range(500)]
    singles = [TaskId(f"single-{number}") for number in range(3000)]
    table = Table(*(view(each, TaskState.QUEUED) for each in (*crowd, *singles)))
    async with (
        watching(table) as watches,
        aclosing(watches.watch(crowd)) as bulk,
        aclosing(watches.watch(singles)) as others,
    ):
        await asyncio.gather(states(bulk), states(others))
        await table.begun(4)
        table.reads.clear()
        table.gate.clear()
        watches.touch(crowd)
        for first in range(0, len(singles), watch.FEW):
            watches.touch(singles[first : first + watch.FEW])
        table.gate.set()
        await table.begun(2)
        assert len(set(crowd) & {each for batch in table.reads[:2] for each in batch}) >= 250


async def test_one_caller_too_many_watches_are_refused_and_others_go_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(watch_room, "MOST_OF_ONE", 2)
    monkeypatch.setattr(watch_room, "MOST_IN_ALL", 3)
    table = Table(*(view(each, TaskState.QUEUED) for each in (A, B, C)))
    async with watching(table) as watches:
        async with aclosing(watches.watch([A, B], caller="greedy")) as one:
            await states(one)
            with pytest.raises(QuotaExceeded, match="this connection") as caught:
                await anext(watches.watch([C], caller="greedy"))
            assert caught.value.metadata == {"limit": "2", "bound": "connection"}
            async with aclosing(watches.watch([A], caller="other")) as other:
                await states(other)
                with pytest.raises(QuotaExceeded, match="this broker"):
                    await anext(watches.watch([C], caller="other"))
        async with aclosing(watches.watch([B, C], caller="greedy")) as again:
            assert await states(again) == {B: TaskState.QUEUED, C: TaskState.QUEUED}
    assert watches.room.in_all == 0


async def test_the_watches_of_one_token_leave_room_for_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watch_room, "MOST_IN_ALL", 4)
    room = watch_room.WatchRoom()
    with room.taken("first", 2, "one"):
        with pytest.raises(QuotaExceeded, match="this token") as caught, room.taken("second", 1, "one"):
            raise AssertionError("kept the others out")
        assert caught.value.metadata["bound"] == "broker"
        with room.taken("third", 2, "other"):
            pass
    with room.taken("second", 4, "one"):
        pass
    assert (room.in_all, len(room._of)) == (0, 0)
