"""What is answered while commits must reach a standby: nothing that a failover can take back (promise 1)."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any, TypeVar

import pytest

from hyrex_broker.domain.errors import StorageUnavailable
from hyrex_broker.domain.model import Outcome
from hyrex_broker.storage.sessions import TakenOver
from tests.integration.storage.stage import INFO, SECRET, Stage, end_of, new_task
from tests.support.pairs import Pair, postgres_pair

Value = TypeVar("Value")
PATIENCE_S = 60.0


@pytest.fixture(scope="module")
def shared_pair() -> Iterator[Pair]:
    with postgres_pair() as pair:
        pair.make_synchronous()
        yield pair


@pytest.fixture
def pair(shared_pair: Pair) -> Iterator[Pair]:
    """A synchronous pair whose standby runs when the test begins and ends."""
    yield shared_pair
    shared_pair.standby.start()
    shared_pair.until_synchronous()


@pytest.fixture
async def stage(pair: Pair) -> AsyncIterator[Stage]:
    async with Stage.on(pair.primary.url, connections=2) as stage:
        yield stage


async def answered(ask: Callable[[], Awaitable[Value]]) -> Value:
    """The answer of a question that is repeated while there is none, as brokers and clients do."""
    async with asyncio.timeout(PATIENCE_S):
        while True:
            try:
                return await ask()
            except StorageUnavailable:
                await asyncio.sleep(0.05)


async def interrupted(pair: Pair, commit: Awaitable[Any]) -> None:
    """Have a commit cancelled while it waits for a standby that is away; it is no success."""
    await asyncio.to_thread(pair.standby._end)
    waiting = asyncio.ensure_future(commit)
    await asyncio.to_thread(pair.cancel_commit)
    with pytest.raises(StorageUnavailable, match="standby"):
        await waiting


async def told_with_the_standby(pair: Pair, ask: Callable[[], Awaitable[Value]]) -> Value:
    """The answer of a question that waits until the standby is back."""
    asked = asyncio.ensure_future(answered(ask))
    while not await asyncio.to_thread(pair.commit_waits):
        assert not asked.done(), f"answered without the standby: {asked.result()}"
    await asyncio.to_thread(pair.standby.start)
    return await asked


async def test_a_repeated_submit_is_answered_once_the_standby_has_the_task(pair: Pair, stage: Stage) -> None:
    task = new_task()
    await stage.lane()
    await interrupted(pair, stage.submit(task))
    known = await told_with_the_standby(pair, lambda: stage.classify(task))
    assert known[task.task_id].digest == task.digest


async def test_a_repeated_report_is_a_duplicate_once_the_standby_has_the_end(
    pair: Pair, stage: Stage
) -> None:
    _, run = await stage.running()
    end = end_of(run, Outcome.COMPLETED)
    await interrupted(pair, stage.ended([end]))
    (told,) = await told_with_the_standby(pair, lambda: stage.classify_reports([end]))
    assert told.recorded


async def test_a_repeated_cancel_is_answered_once_the_standby_has_it(pair: Pair, stage: Stage) -> None:
    (task_id,) = await stage.submitted()
    await interrupted(pair, stage.cancels.cancel([task_id], "not wanted"))
    (standing,) = await told_with_the_standby(pair, lambda: stage.cancels.standing([task_id]))
    assert standing.known
    assert not standing.live


async def test_a_transaction_that_the_standby_may_lack_is_no_success(pair: Pair, stage: Stage) -> None:
    opened = await stage.session()

    async def resumed() -> TakenOver:
        return await stage.sessions.take_over(stage.broker, opened.session_id, SECRET, INFO, 0)

    await interrupted(pair, resumed())
    assert (await told_with_the_standby(pair, resumed)).leases == []
