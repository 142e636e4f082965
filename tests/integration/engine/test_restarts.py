"""Every loop of the engine may be broken off and run again, with whatever was under way."""

import asyncio
from collections.abc import Sequence

import pytest

from hyrex_broker.domain.errors import StorageUnavailable
from hyrex_broker.domain.model import Outcome, SubmitAnswer
from hyrex_broker.engine.batching import Batcher, StatementSlot
from hyrex_broker.storage.assign import AssignStore
from hyrex_broker.storage.brokers import BrokerStore
from tests.integration.engine.bench import Bench, started
from tests.integration.storage.stage import end_of, new_task
from tests.support.loops import settle


async def stored(items: Sequence[int], statement: StatementSlot) -> Sequence[int]:
    return items


async def refuse(item: int, error: object) -> int:
    raise AssertionError


async def test_callers_of_a_broken_off_batch_may_repeat_it() -> None:
    """Told of a cancellation that is not theirs, they would be cancelled themselves."""
    never = asyncio.Event()
    answering = False

    async def store(items: Sequence[int], statement: StatementSlot) -> Sequence[int]:
        if not answering:
            await never.wait()
        return items

    batcher: Batcher[int, int] = Batcher(store, refuse, lambda item: 0)
    running = asyncio.ensure_future(batcher.run())
    first = batcher.add([1])
    await settle()
    second = batcher.add([2])
    running.cancel()
    for future in (first, second):
        with pytest.raises(StorageUnavailable):
            await future
    answering = True
    third = batcher.add([3])
    running = asyncio.ensure_future(batcher.run())
    assert await asyncio.wait_for(third, 60) == [3]
    assert await asyncio.wait_for(batcher.add([4]), 60) == [4]
    running.cancel()


async def test_a_batch_that_never_began_does_not_count_as_under_way() -> None:
    batcher: Batcher[int, int] = Batcher(stored, refuse, lambda item: 0)
    running = asyncio.ensure_future(batcher.run())
    await settle()
    running.cancel()
    lost = batcher.add([1])
    with pytest.raises(StorageUnavailable):
        await lost
    running = asyncio.ensure_future(batcher.run())
    assert await asyncio.wait_for(batcher.add([2]), 60) == [2]
    running.cancel()


async def test_an_engine_whose_loops_were_all_broken_off_goes_on(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With an assign and a large payload under way."""
    monkeypatch.setattr(bench.engine.dispatcher, "reserve_slots", lambda counts: [])
    payloads, asked, never = AssignStore.payloads, asyncio.Event(), asyncio.Event()

    async def silent(self: AssignStore, *args: object) -> object:
        asked.set()
        return await never.wait()

    monkeypatch.setattr(AssignStore, "payloads", silent)
    _, link = await bench.worker()
    await bench.submit([new_task(payload=b"x" * 100_000)])
    await asyncio.wait_for(asked.wait(), 60)
    await bench.stop()
    monkeypatch.setattr(AssignStore, "payloads", payloads)
    bench.loops = started(bench.engine)
    (answer,) = await bench.submit([new_task()])
    assert isinstance(answer, SubmitAnswer)
    for run in await link.until_runs(2):
        await bench.report([end_of(run, Outcome.COMPLETED)])


async def test_a_broker_whose_presence_fails_is_not_taken_for_gone(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    left: list[object] = []
    await bench.stop()
    bench.loops.clear()

    async def seen(self: BrokerStore, *args: object, **more: object) -> object:
        raise ValueError("a defect")

    async def unregister(self: BrokerStore, broker: object) -> None:
        left.append(broker)

    monkeypatch.setattr(BrokerStore, "seen", seen)
    monkeypatch.setattr(BrokerStore, "unregister", unregister)
    with pytest.raises(ValueError, match="a defect"):
        await bench.engine.presence.run()
    assert left == []
