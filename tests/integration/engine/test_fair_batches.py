"""Callers share the statements: nobody's bulk is in front of somebody else's single task or report."""

import asyncio

import pytest

from hyrex.v1 import task_pb2, task_service_pb2
from hyrex_broker.domain.blocks import TaskBatch
from hyrex_broker.domain.ended import EndBlock
from hyrex_broker.domain.model import Outcome, Receipt, SubmitAnswer
from hyrex_broker.engine.batching import BATCH_ITEMS
from hyrex_broker.engine.shares import AHEAD
from hyrex_broker.service.submit import SubmitChecker
from hyrex_broker.storage.availability import Availability
from hyrex_broker.storage.reads import TaskReads
from hyrex_broker.storage.report import ReportStore
from hyrex_broker.storage.submit import SubmitStore
from tests.integration.engine.bench import Bench
from tests.integration.storage.stage import end_of, make_id, new_task

WITHIN_S = 60.0


@pytest.fixture
def bulk_may_end(monkeypatch: pytest.MonkeyPatch) -> asyncio.Event:
    """No statement with many items is answered before this is set."""
    may_end, submit, end = asyncio.Event(), SubmitStore.submit, ReportStore.end_returned

    async def held_submit(self: SubmitStore, batch: TaskBatch) -> object:
        if len(batch) > AHEAD:
            await may_end.wait()
        return await submit(self, batch)

    async def held_end(self: ReportStore, ends: EndBlock) -> object:
        if len(ends) > AHEAD:
            await may_end.wait()
        return await end(self, ends)

    monkeypatch.setattr(SubmitStore, "submit", held_submit)
    monkeypatch.setattr(ReportStore, "end_returned", held_end)
    return may_end


async def test_a_single_send_does_not_wait_for_a_statement_with_many(
    bench: Bench, bulk_may_end: asyncio.Event
) -> None:
    bulk = [asyncio.ensure_future(bench.submit([new_task() for _ in range(500)], n)) for n in range(5)]
    await asyncio.sleep(0)
    (answer,) = await asyncio.wait_for(bench.submit([new_task()], "single"), WITHIN_S)
    assert isinstance(answer, SubmitAnswer)
    assert not any(each.done() for each in bulk)
    bulk_may_end.set()
    await asyncio.gather(*bulk)


@pytest.mark.parametrize("size", [1, 16, 50])
async def test_a_single_send_does_not_wait_for_bulk_in_small_frames(
    bench: Bench, bulk_may_end: asyncio.Event, size: int
) -> None:
    """Statements with more than a few items do not end here, whatever frames their items came in."""
    bulk = [
        asyncio.ensure_future(bench.submit([new_task() for _ in range(size)], f"bulk {caller}"))
        for caller in range(40)
        for _ in range(8)
    ]
    await asyncio.sleep(0)
    for _ in range(10):
        await asyncio.wait_for(bench.submit([new_task()], "single"), WITHIN_S)
    bulk_may_end.set()
    await asyncio.gather(*bulk)


async def test_a_single_send_does_not_wait_for_bulk_of_which_few_frames_of_one_task_are_admitted(
    bench: Bench, bulk_may_end: asyncio.Event
) -> None:
    checker = SubmitChecker(bench.engine.intake, 1000, Availability(), TaskReads(bench.database))

    async def send(caller: str) -> None:
        task = task_pb2.NewTask(task_id=make_id(), name="work", queue="default")
        await checker.submit([task], task_service_pb2.SubmitTasksResponse().results, caller=caller)

    await send("first")  # which makes the lane
    bulk = [asyncio.ensure_future(send(f"bulk {caller}")) for _ in range(8) for caller in range(40)]
    await asyncio.sleep(0)
    await asyncio.wait_for(send("single"), WITHIN_S)
    assert not all(each.done() for each in bulk)
    bulk_may_end.set()
    await asyncio.gather(*bulk)


async def test_a_single_report_does_not_wait_for_a_statement_with_many(
    bench: Bench, bulk_may_end: asyncio.Event
) -> None:
    bulk_may_end.set()
    _, link = await bench.worker(capacity=500)
    await bench.submit([new_task() for _ in range(200)])
    bulk_may_end.clear()
    one, *many = [end_of(run, Outcome.COMPLETED) for run in await link.until_runs(200)]
    waiting = [asyncio.ensure_future(bench.report(many[: 2 * AHEAD], 1))]
    await asyncio.sleep(0)
    assert await asyncio.wait_for(bench.report([one], 2), WITHIN_S) == [Receipt.ACCEPTED]
    assert not waiting[0].done()
    bulk_may_end.set()
    await asyncio.gather(*waiting)


async def test_bulk_callers_have_equal_shares_of_the_batches(
    bench: Bench, bulk_may_end: asyncio.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One queue for each caller: who sends ten frames at once is not ten places ahead of who sends one."""
    answered = []

    async def bulk(caller: str, frames: int) -> None:
        async def frame() -> None:
            await bench.submit([new_task() for _ in range(BATCH_ITEMS // 2)], caller)
            answered.append(caller)

        await asyncio.gather(*(frame() for _ in range(frames)))

    greedy = asyncio.ensure_future(bulk("greedy", 12))
    await asyncio.sleep(0)
    modest = asyncio.ensure_future(bulk("modest", 1))
    await asyncio.sleep(0.01)
    bulk_may_end.set()
    await modest
    # What was under way when it came, and at most one statement beside its own.
    assert answered.count("greedy") <= 5
    await greedy
