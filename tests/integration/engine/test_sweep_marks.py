"""Rule 23: no end is passed by when the clock is set back, nor when what was found is followed late."""

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from hyrex_broker.domain.model import Outcome, TaskId
from hyrex_broker.engine import sweep
from hyrex_broker.storage.marks import FOLLOWED_HEAD, HEADS, Mark, MarkStore
from tests.integration.engine.bench import Bench, Link
from tests.integration.engine.stored_rows import rows, until_rows
from tests.integration.storage.keys import keyed
from tests.integration.storage.stage import end_of, make_id

_MARK = f"select mark from low_water_mark where lane = 0 and rank = {FOLLOWED_HEAD}"


@pytest.fixture(autouse=True)
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sweep, "EVERY_S", 0.1)
    monkeypatch.setattr(sweep, "SETTLED", timedelta(seconds=0.1))


class Clock:
    """The database's clock, as the sweep reads it: ahead by so much. It looks while `runs` is set; `is_held`
    says that its last look is over, and that it waits for `runs`."""

    def __init__(self, bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
        self.ahead = timedelta()
        self.runs = asyncio.Event()
        self.is_held = asyncio.Event()
        self._elected = bench.engine.follow._sweep._store.elected
        monkeypatch.setattr(bench.engine.follow._sweep._store, "elected", self.elected)

    async def elected(self, *args: Any) -> datetime | None:
        if not self.runs.is_set():
            self.is_held.set()
            await self.runs.wait()
            self.is_held.clear()
        settled = await self._elected(*args)
        return None if settled is None else settled + self.ahead


async def _by_ends_alone(bench: Bench, clock: Clock) -> None:
    """The rounds would find everything too while there are few rows. No end is told, nor looked for yet."""
    bench.engine.reports.on_ended = lambda *_: None
    bench.engine.follow.sweep_soon()
    await asyncio.wait_for(clock.is_held.wait(), 60)
    bench.engine.follow._sweep._rounds.clear()
    assert not clock.runs.is_set()


async def _ended(bench: Bench, link: Link, key: str) -> TaskId:
    """A task ends, and another one of its key, whose id is returned, waits for it."""
    first, second = keyed(key), keyed(key)
    begun = len(link.runs)
    await bench.submit([first])
    await bench.submit([second])
    runs = await link.until_runs(begun + 1)
    await bench.report([end_of(runs[begun], Outcome.COMPLETED)])
    return second.task_id


async def test_what_is_found_last_is_not_passed_by_when_all_else_is_followed(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The mark is stored only when the last page has been followed too, or the next broker begins behind."""
    monkeypatch.setattr(sweep, "PAGE", 1)
    clock = Clock(bench, monkeypatch)
    await _by_ends_alone(bench, clock)
    _, link = await bench.worker(2)
    follow, read = bench.engine.follow, bench.engine.follow._sweep._store.ended
    waiting = {await _ended(bench, link, key) for key in "ab"}
    pages = 0

    async def one_after_the_other(*args: Any) -> Any:
        nonlocal pages
        pages += 1
        if pages == 2:
            async with asyncio.timeout(60):
                while follow._tasks or follow._under_way:
                    await asyncio.sleep(0.01)
            await bench.database.execute("alter function hyrex.follow rename to follow_later")
        return await read(*args)

    monkeypatch.setattr(follow._sweep._store, "ended", one_after_the_other)
    # One look finds both.
    await until_rows(bench, "select max(finished_at) < now() - interval '0.1 s' from task_run", [(True,)])
    clock.runs.set()
    async with asyncio.timeout(60):
        while pages < 8:
            await asyncio.sleep(0.01)
    assert await rows(bench, _MARK) == []
    await bench.database.execute("alter function hyrex.follow_later rename to follow")
    assert {run.task_id for run in await link.until_runs(4)} >= waiting
    async with asyncio.timeout(60):
        while not await rows(bench, _MARK):
            await asyncio.sleep(0.01)


async def test_ends_are_found_after_the_clock_was_set_back_by_less_than_passes_between_two_looks(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They are below the mark, and the next look is above it as ever."""
    monkeypatch.setattr(sweep, "SETTLED", timedelta(seconds=2))
    clock = Clock(bench, monkeypatch)
    await _by_ends_alone(bench, clock)
    _, link = await bench.worker(1)
    swept = bench.engine.follow._sweep
    clock.ahead = timedelta(seconds=3)
    clock.runs.set()
    async with asyncio.timeout(60):
        while swept._mark is None:
            await asyncio.sleep(0.01)
    clock.runs.clear()
    await asyncio.wait_for(clock.is_held.wait(), 60)
    clock.ahead, mark = timedelta(), swept._mark
    second = await _ended(bench, link, "a")
    assert mark is not None
    async with asyncio.timeout(60):
        while datetime.now(UTC) - timedelta(seconds=2) <= mark:  # until the next look is above it
            await asyncio.sleep(0.01)
    clock.runs.set()
    assert [run.task_id for run in await link.until_runs(2)][1] == second


async def test_a_look_is_over_after_the_clock_was_set_back_though_ends_go_on(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sweep, "SETTLED", timedelta(seconds=5))
    clock = Clock(bench, monkeypatch)
    await _by_ends_alone(bench, clock)
    await MarkStore(bench.database).save([Mark(HEADS, FOLLOWED_HEAD, datetime.now(UTC) + timedelta(hours=1))])

    store, is_over = bench.engine.follow._sweep._store, asyncio.Event()
    ended, entered = store.ended, store.entered

    async def after_one_more(*args: Any) -> Any:
        await bench.database.execute(
            "insert into task_run (task_id, run_number, attempt_number, outcome, final)"
            " values ($1, 0, 0, 5, true)",
            make_id(),
        )
        return await ended(*args)

    async def when_all_are_read(*args: Any) -> Any:
        is_over.set()
        return await entered(*args)

    monkeypatch.setattr(store, "ended", after_one_more)
    monkeypatch.setattr(store, "entered", when_all_are_read)
    clock.runs.set()
    async with asyncio.timeout(15):
        await is_over.wait()


async def test_the_stored_mark_is_lowered_when_the_clock_was_set_back(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Or each broker that begins to look within that time would begin at the present."""
    monkeypatch.setattr(sweep, "SETTLED", timedelta(seconds=5))
    clock = Clock(bench, monkeypatch)
    await _by_ends_alone(bench, clock)
    await MarkStore(bench.database).save([Mark(HEADS, FOLLOWED_HEAD, datetime.now(UTC) + timedelta(hours=1))])
    clock.runs.set()
    async with asyncio.timeout(60):
        while (await rows(bench, _MARK))[0][0] > datetime.now(UTC):
            await asyncio.sleep(0.01)


async def test_a_broker_that_was_seen_in_the_future_does_not_look_for_all(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was killed, and the clock was set back."""
    clock = Clock(bench, monkeypatch)
    await bench.database.execute(
        "insert into broker (id, name, address, version, knows, seen_at) overriding system value"
        " values (-1, 'gone', '127.0.0.1:2', '1', 1, now() + interval '1 hour')"
    )
    await _by_ends_alone(bench, clock)
    _, link = await bench.worker(1)
    second = await _ended(bench, link, "a")
    clock.runs.set()
    assert [run.task_id for run in await link.until_runs(2)][1] == second
