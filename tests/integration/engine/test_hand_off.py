"""Direct hand-off: when a batch waits for room, and who is not held up by it."""

import asyncio
import time
from collections.abc import Callable

import pytest

from hyrex_broker.domain.model import Outcome
from hyrex_broker.engine.dispatch.release_rate import ReleaseRate
from hyrex_broker.engine.submit import handoff
from tests.integration.engine.bench import Bench
from tests.integration.storage.stage import NewTask, end_of, new_task

LARGE = handoff._LARGE_BATCH
FAST = 1e6


@pytest.fixture
def pace(monkeypatch: pytest.MonkeyPatch) -> Callable[[float, float], None]:
    """Makes leases seem to end at a rate, and a batch wait for so long."""

    def set_pace(per_s: float, longest_s: float) -> None:
        monkeypatch.setattr(ReleaseRate, "per_s", per_s)
        monkeypatch.setattr(handoff, "_LONGEST_WAIT_S", longest_s)

    return set_pace


@pytest.fixture
def nobody_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    """A batch that waits for leases to end fails."""

    async def waits(self: ReleaseRate, within_s: float) -> bool:
        raise AssertionError("a batch waits")

    monkeypatch.setattr(ReleaseRate, "more", waits)


def batch(count: int) -> list[NewTask]:
    return [new_task() for _ in range(count)]


async def ready(bench: Bench) -> int:
    return int((await bench.database.fetch("select count(*) from ready"))[0][0])


async def test_a_large_batch_waits_for_runs_that_are_about_to_end(
    bench: Bench, pace: Callable[[float, float], None]
) -> None:
    pace(FAST, 20.0)
    _, link = await bench.worker(capacity=LARGE)
    await bench.submit(batch(LARGE))
    runs = list(await link.until_runs(LARGE))
    more = asyncio.create_task(bench.submit(batch(LARGE)))
    await asyncio.sleep(0.2)
    assert not more.done()
    for half in (runs[: LARGE // 2], runs[LARGE // 2 :]):
        await bench.report([end_of(run, Outcome.COMPLETED) for run in half])
    await more
    assert await ready(bench) == 0
    await link.until_runs(2 * LARGE)


async def test_slots_of_a_lane_go_to_its_first_tasks_by_priority(bench: Bench) -> None:
    """In a batch of several lanes, each with fewer slots than tasks; the others are ready."""
    _, one = await bench.worker(capacity=2, tasks=["one"])
    _, two = await bench.worker(capacity=3, tasks=["two"])
    ranks = [5, 7, 1, 5, 1, 9]
    tasks = [new_task(name=name, rank=rank) for rank in ranks for name in ("one", "two")]
    await bench.submit(tasks)
    for link, name, best in ((one, "one", [1, 1]), (two, "two", [1, 1, 5])):
        (handed,) = [runs for _, runs in link.frames]
        assert sorted(run.rank for run in handed) == best
        first = {task.task_id for task in tasks if task.terms.name == name and task.terms.rank in (1, 5)}
        assert {run.task_id for run in handed} <= first
    assert await ready(bench) == 7


async def test_a_batch_that_waits_in_vain_is_ready(
    bench: Bench, pace: Callable[[float, float], None]
) -> None:
    pace(FAST, 0.2)
    await bench.worker(capacity=LARGE)
    began = time.monotonic()
    await bench.submit(batch(LARGE + 1))
    assert time.monotonic() - began >= 0.2
    assert await ready(bench) == 1


@pytest.mark.parametrize(("count", "per_s"), [(LARGE - 1, FAST), (LARGE, 0.0)])
@pytest.mark.usefixtures("nobody_waits")
async def test_neither_a_small_batch_nor_one_behind_slow_runs_waits(
    bench: Bench, pace: Callable[[float, float], None], count: int, per_s: float
) -> None:
    pace(per_s, 60.0)
    await bench.worker(capacity=1)
    await bench.submit(batch(count))
    assert await ready(bench) == count - 1


@pytest.mark.usefixtures("nobody_waits")
async def test_a_batch_behind_a_backlog_does_not_wait(
    bench: Bench, pace: Callable[[float, float], None]
) -> None:
    pace(0.0, 60.0)
    await bench.worker(capacity=1)
    await bench.submit(batch(2))
    pace(FAST, 60.0)
    await bench.submit(batch(LARGE))
    assert await ready(bench) == LARGE + 1


async def test_the_rate_of_the_last_work_is_assumed_until_a_wait_for_it_was_in_vain() -> None:
    rate = ReleaseRate()
    assert rate.per_s == 0
    for _ in range(10):
        rate.ended(50)
    risen = rate.per_s
    assert 2000 < risen <= 5000
    await asyncio.sleep(0.3)
    assert rate.per_s == risen
    assert not await rate.more(0.01)
    assert rate.per_s < risen / 5
    ending = asyncio.get_running_loop().call_later(0.01, rate.ended, 50)
    assert await rate.more(10)
    assert rate.per_s >= 500
    ending.cancel()
