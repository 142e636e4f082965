"""What people ask for while tasks move: the answer is what was true at some moment of the asking."""

import asyncio
from typing import Any

import pytest

from hyrex_broker.domain.model import CancelOutcome, Outcome, RetryOutcome, SubmitOutcome
from hyrex_broker.storage.cancel import CancelStore
from hyrex_broker.storage.submit import SubmitStore
from tests.integration.engine.bench import Bench
from tests.integration.storage.stage import end_of, make_id, new_task


async def test_a_retry_that_an_end_overtakes_still_requeues(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The task runs when the statement looks and has failed when it is classified: look again (rule 4)."""
    _, link = await bench.worker()
    task = new_task()
    await bench.submit([task])
    (run,) = await link.until_runs(1)
    retry = CancelStore.retry
    asked: list[int] = []

    async def then_it_fails(self: CancelStore, *args: Any) -> Any:
        found = await retry(self, *args)
        asked.append(len(found))
        if len(asked) == 1:
            await bench.report([end_of(run, Outcome.FAILED)])
        return found

    monkeypatch.setattr(CancelStore, "retry", then_it_fails)
    assert await bench.engine.cancels.retry([task.task_id]) == [RetryOutcome.REQUEUED]
    assert asked == [0, 1]
    assert (await link.until_runs(2))[1].run_number == 1


async def test_a_running_and_an_unknown_task_are_not_requeued(bench: Bench) -> None:
    _, link = await bench.worker()
    task = new_task()
    await bench.submit([task])
    await link.until_runs(1)
    answers = await bench.engine.cancels.retry([task.task_id, make_id()])
    assert answers == [RetryOutcome.NOT_FINAL, RetryOutcome.NOT_FOUND]


async def test_work_that_nobody_here_can_run_does_not_slow_down_the_rest(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A task whose workers are elsewhere waits; another one is still handed off directly."""
    _, link = await bench.worker(tasks=["work"])
    await bench.submit([new_task(name="elsewhere")])
    statements: list[str] = []
    submit = SubmitStore.submit_handing_off

    async def noted(self: SubmitStore, *args: Any) -> Any:
        statements.append("handed off")
        return await submit(self, *args)

    monkeypatch.setattr(SubmitStore, "submit_handing_off", noted)
    (answer,) = await bench.submit([new_task(name="work")])
    assert getattr(answer, "outcome", None) is SubmitOutcome.STORED
    assert statements == ["handed off"]
    await link.until_runs(1)


async def test_a_run_that_its_worker_lost_is_taken_back_once(bench: Bench) -> None:
    session, link = await bench.worker()
    await bench.submit([new_task()])
    (run,) = await link.until_runs(1)
    receipt = link.frames[0][0]
    (orphan,) = bench.engine.heartbeats.beat(session, 1, [], receipt)
    assert (orphan.token, orphan.outcome) == (run.token, Outcome.LOST)
    assert bench.engine.heartbeats.beat(session, 2, [], receipt) == []
    await asyncio.gather(*(bench.engine.reports.report([orphan]) for _ in range(2)))
    assert not session.leases
    assert not session.orphans


async def test_a_cancel_reaches_a_run_and_a_second_one_says_the_same(bench: Bench) -> None:
    _, link = await bench.worker()
    task = new_task()
    await bench.submit([task])
    await link.until_runs(1)
    for _ in range(2):
        assert await bench.engine.cancels.cancel([task.task_id], "enough") == [CancelOutcome.REQUESTED]
    assert {order.task_id for order in link.cancels} == {task.task_id}
