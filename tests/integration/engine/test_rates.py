"""Lanes with a rate wait for their tokens, and only for them."""

import asyncio
from datetime import timedelta

import pytest

from hyrex_broker.domain.rates import DeclaredLimit, Rate
from hyrex_broker.engine.dispatch.token_waits import TokenWaits
from hyrex_broker.storage.assign import AssignStore
from hyrex_broker.storage.queues import LimitChange, QueueChange, QueueStore
from tests.integration.engine.bench import Bench, running_engine
from tests.integration.storage.stage import new_task

HOURLY = Rate(1, 3_600_000, 1)
QUICK = Rate(20, 1000, 2)


class Assigns:
    """Counts the assigns of limited lanes, as they begin."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.count = 0
        make = AssignStore.assign_limited

        async def counted(store: AssignStore, *args: object) -> object:
            self.count += 1
            return await make(store, *args)  # type: ignore[arg-type]

        monkeypatch.setattr(AssignStore, "assign_limited", counted)


async def test_runs_of_a_rate_come_as_its_tokens_do_without_an_assign_between(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One assign for the burst, and one for each token: no look in vain, and no wait for the next poll."""
    assigns = Assigns(monkeypatch)
    _, link = await bench.worker(100, limits=[DeclaredLimit("task", "work", 0, QUICK)])
    began = (await bench.database.fetchrow("select clock_timestamp()"))[0]  # type: ignore[index]
    await bench.submit([new_task() for _ in range(22)])
    await link.until_runs(22)
    ended = (await bench.database.fetchrow("select clock_timestamp()"))[0]  # type: ignore[index]
    assert ended - began >= timedelta(seconds=1), "twenty tokens beyond the burst"
    assert assigns.count <= 2 * 22


async def test_a_lane_without_a_token_is_not_read_whatever_ends_or_looks(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    assigns = Assigns(monkeypatch)
    _, link = await bench.worker(10, limits=[DeclaredLimit("task", "work", 0, HOURLY)])
    await bench.submit([new_task() for _ in range(3)])
    (run,) = await link.until_runs(1)
    dispatcher, before = bench.engine.dispatcher, assigns.count
    await dispatcher._find_work()
    await dispatcher._find_above_marks()
    dispatcher.leases_ended([run.lane], 1)
    assert not await dispatcher._assign()
    assert assigns.count == before
    assert dispatcher.sizes()["waiting for a token"] == 1


async def test_an_operators_rate_ends_the_wait_for_the_old_token(bench: Bench) -> None:
    await QueueStore(bench.database).update(
        "default", QueueChange(limit=LimitChange(changes_rate=True, rate=HOURLY))
    )
    await bench.engine.directory.changed_here()
    _, link = await bench.worker(10)
    await bench.submit([new_task() for _ in range(3)])
    await link.until_runs(1)
    await QueueStore(bench.database).update(
        "default", QueueChange(limit=LimitChange(changes_rate=True, rate=Rate(1000, 1000, 100)))
    )
    await bench.engine.directory.changed_here()
    await link.until_runs(3)


async def test_a_rate_takes_free_slots_and_no_place_to_wait(bench: Bench) -> None:
    """A run that waits in its worker begins at any time, so what a rate has spread would begin together."""
    session, link = await bench.worker(10, limits=[DeclaredLimit("task", "work", 0, Rate(1000, 1000, 100))])
    bench.engine.sessions.set_capacity(session, {"sync": 10}, {"sync": 2})
    await bench.submit([new_task() for _ in range(6)])
    await link.until_runs(2)
    assert not await bench.engine.dispatcher._assign()
    assert len(link.runs) == 2


async def test_lanes_without_a_rate_are_prefetched_beside_one_with_a_rate(bench: Bench) -> None:
    session, link = await bench.worker(
        2, tasks=["work", "other"], limits=[DeclaredLimit("task", "work", 0, Rate(1000, 1000, 100))]
    )
    bench.engine.sessions.set_capacity(session, {"sync": 2}, {"sync": 1})
    await bench.submit([new_task() for _ in range(3)])
    await link.until_runs(1)
    await bench.submit([new_task(name="other")])
    assert {run.name for run in await link.until_runs(2)} == {"work", "other"}


async def test_two_brokers_share_one_rate(bench: Bench, storage_url: str) -> None:
    limits = [DeclaredLimit("task", "work", 0, Rate(1, 3_600_000, 4))]
    async with running_engine(storage_url) as other:
        links = [(await each.worker(10, limits=limits))[1] for each in (bench, other)]
        await other.engine.directory.refresh()
        await bench.submit([new_task() for _ in range(20)])
        for each in (bench, other):
            each.engine.dispatcher.look_again()
        async with asyncio.timeout(60):
            while sum(len(link.runs) for link in links) < 4:
                for link in links:
                    link.pushed.clear()
                waits = [asyncio.ensure_future(link.pushed.wait()) for link in links]
                await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
                for wait in waits:
                    wait.cancel()
        for each in (bench, other):
            await each.engine.dispatcher._assign()
        row = await bench.database.fetchrow("select count(*) from lease")
        assert row is not None
        assert row[0] == 4


async def test_one_timer_serves_all_lanes_that_wait() -> None:
    came: list[list[int]] = []
    told = asyncio.Event()

    def come(lanes: list[int]) -> None:
        came.append(lanes)
        if len(came) == 2:
            told.set()

    waits = TokenWaits(come)  # type: ignore[arg-type]
    waits.add({2: timedelta(milliseconds=20), 1: timedelta(0)})  # type: ignore[dict-item]
    await asyncio.wait_for(told.wait(), 60)
    assert came == [[1], [2]]
    waits.add({3: timedelta(hours=1)})  # type: ignore[dict-item]
    waits.end()
    assert came[-1] == [3]
