"""Lanes that nobody used for long are forgotten, and tasks that come again have lanes again."""

import asyncio
import time
from collections.abc import Collection
from typing import Any, Final

import pytest

from hyrex_broker.domain import counters
from hyrex_broker.domain.errors import LanesClosed
from hyrex_broker.domain.model import Outcome, SubmitAnswer, TaskExtras
from hyrex_broker.domain.retention import RetentionTerms
from hyrex_broker.storage.lanes import Lane, LaneName
from hyrex_broker.storage.unused import remove_unused
from tests.integration.engine.bench import Bench, running_engine
from tests.integration.storage.old_days import BAD, KEEP, upkeep
from tests.integration.storage.stage import NewTask, end_of, new_task

COUNT: Final = 50


@pytest.fixture(autouse=True)
def few_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lanes that are counted by themselves are not forgotten."""
    monkeypatch.setattr(counters, "MOST_LANES", 1)


async def removed(bench: Bench) -> None:
    """A round of retention, much later: what ended is gone, and with it its lanes."""
    for table in ("task", "task_run", "low_water_mark"):
        await bench.database.execute(f"delete from {table}")
    await bench.database.execute("update lane set usable_until = now() - interval '60 days'")
    await bench.database.execute("update queue set used_at = now() - interval '60 days'")
    async with upkeep(bench.database.url) as own:
        await remove_unused(own, RetentionTerms(KEEP, BAD))


async def ran(bench: Bench, link: Any, tasks: list[NewTask]) -> None:
    """Tasks that were sent and have run."""
    before = len(link.runs)
    for answer in await bench.submit(tasks):
        assert isinstance(answer, SubmitAnswer)
    runs = (await link.until_runs(before + len(tasks)))[before:]
    await bench.report([end_of(run, Outcome.COMPLETED) for run in runs])


def sizes(bench: Bench) -> dict[str, int]:
    directory, schedule = bench.engine.directory, bench.engine.dispatcher._schedule
    (profile,) = bench.engine.sessions.profiles
    return {
        "names": len(directory.names),
        "ids": len(directory._ids),
        "closing": len(directory._closing),
        "heads": len(directory._heads),
        "plain": len(directory._plain),
        "members": sum(map(len, directory._members.values())),
        "families": len(directory.families) + len(directory.families._by_name),
        "marks": len(schedule._marks) + len(schedule._taken),
        "served": len(schedule.shares._served),
        "profile": len(profile.lanes),
    }


async def test_what_is_gone_takes_no_memory_and_may_come_again(bench: Bench) -> None:
    _, link = await bench.worker(4 * COUNT)
    await ran(bench, link, [new_task()])
    before = sizes(bench)
    for _ in range(2):
        tasks = [new_task(queue=f"q{number}") for number in range(COUNT)]
        tasks += [new_task(queue="fair", fair_key=f"k{number}") for number in range(5)]
        tasks += [new_task(queue="keyed", concurrency_key="k")]
        await ran(bench, link, tasks)
        assert sizes(bench)["names"] > COUNT
        await bench.engine.directory.forget_gone()
        assert sizes(bench)["names"] > COUNT, "nothing of it is gone"
        await removed(bench)
        bench.engine.directory.close_all()  # as when the time of each has passed
        await bench.engine.directory.forget_gone()
        left = sizes(bench)
        assert all(left[what] <= before[what] + 1 for what in left), (before, left)


async def test_a_broker_that_knows_a_lane_which_is_gone_is_told_and_makes_another(bench: Bench) -> None:
    """As one that was stopped for months."""
    _, link = await bench.worker()
    await ran(bench, link, [new_task()])
    old = bench.engine.directory.find("default", "work")
    await removed(bench)
    for late in (new_task(), new_task(extras=TaskExtras(expires_in_ms=60_000))):
        try:
            (answer,) = await bench.submit([late])
        except LanesClosed:  # then its caller tries again (service/submit.py)
            (answer,) = await bench.submit([late])
        assert isinstance(answer, SubmitAnswer)
    await link.until_runs(3)
    assert bench.engine.directory.find("default", "work") != old


async def test_tasks_for_closed_lanes_are_handed_off_as_soon_as_those_are_open_again(bench: Bench) -> None:
    """The statement that was told so has stored nothing: there are no leases to look for first."""
    _, link = await bench.worker(2)
    await ran(bench, link, [new_task()])
    await bench.database.execute("update lane set usable_until = now() - interval '1 minute'")
    told = bench.database.counters.statements["submit.submit_handing_off"]
    before = sum(told.counts)
    with pytest.raises(LanesClosed):
        await bench.submit([new_task()])
    assert not bench.engine.dispatcher._placer.has_unresolved
    await bench.submit([new_task()])
    assert sum(told.counts) == before + 1
    await link.until_runs(2)


async def test_a_lane_in_use_is_renewed_by_whoever_stores_in_it(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It closes here half a day before it does in the database."""
    await bench.submit([new_task()])
    directory = bench.engine.directory
    lane = directory.find("default", "work")
    assert lane is not None
    await bench.database.execute("update lane set usable_until = now() + interval '13 hours'")
    (hours,) = await bench.database.fetch("select extract(epoch from usable_until - now()) / 3600 from lane")
    assert hours[0] < 14
    now = time.monotonic()
    monkeypatch.setattr("hyrex_broker.engine.lane_directory.time.monotonic", lambda: now + 37 * 3600)
    await directory.refresh()
    assert directory.find("default", "work") is None
    await bench.submit([new_task()])
    assert directory.find("default", "work") == lane
    (hours,) = await bench.database.fetch("select extract(epoch from usable_until - now()) / 3600 from lane")
    assert hours[0] > 47


async def test_a_family_of_which_a_lane_lives_keeps_its_head(bench: Bench) -> None:
    """The head stands for all in the rotation, be it gone itself."""
    _, link = await bench.worker()
    await ran(bench, link, [new_task()])
    await ran(bench, link, [new_task(fair_key="k")])
    head = bench.engine.directory.find("default", "work")
    assert head is not None
    await bench.database.execute("delete from lane where id = $1", head)
    bench.engine.directory.close_all()
    await bench.engine.directory.forget_gone()
    assert head in bench.engine.directory.names
    await ran(bench, link, [new_task(fair_key="k"), new_task()])


async def test_another_broker_forgets_what_this_one_removed(bench: Bench) -> None:
    async with running_engine(bench.database.url) as other:
        await other.submit([new_task()])
        await bench.submit([new_task(queue="q")])
        await other.submit([new_task(queue="q")])
        for table in ("ready", "task"):
            await bench.database.execute(f"delete from {table}")
        await removed(bench)
        other.engine.directory.close_all()
        await other.engine.retention.on_round()
        assert not [lane for lane, (queue, _) in other.engine.directory.names.items() if queue == "q"]


async def test_many_lanes_that_close_together_are_interned_together(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else the last of ten thousand senders would wait for as many transactions."""
    directory, calls = bench.engine.directory, list[int]()
    intern = directory._store.intern

    async def counted(names: Collection[LaneName], most_new: int) -> list[Lane]:
        calls.append(len(names))
        return await intern(names, most_new)

    monkeypatch.setattr(directory._store, "intern", counted)
    queues = [f"q{number}" for number in range(200)]
    await asyncio.gather(*(directory.intern([(queue, "work")]) for queue in queues))
    assert len(calls) <= 2
    directory.close_all()
    await asyncio.gather(*(directory.intern([(queue, "work")]) for queue in queues))
    assert len(calls) <= 4
    assert sum(calls) == 400
    assert all(directory.find(queue, "work") is not None for queue in queues)
    assert not directory._asked
