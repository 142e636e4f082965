"""Fair keys through a whole engine: whose task runs next, and that a task stays with those of its key."""

import asyncio
from collections import Counter
from collections.abc import Sequence
from typing import Any

import pytest

from hyrex_broker.domain.model import Outcome, RetryOutcome, SubmitAnswer, TaskExtras
from hyrex_broker.domain.rates import DeclaredLimit, Rate
from hyrex_broker.storage.cluster import ClusterStore
from tests.integration.engine.bench import Bench, Link, running_engine
from tests.integration.storage.conftest import execute
from tests.integration.storage.stage import end_of, new_task
from tests.support.assigned import AssignedRun
from tests.support.postgres import run_apart

ADA, BEN = "ada", "ben"


@pytest.fixture(autouse=True)
def of_two_buckets(storage_url: str) -> None:
    """With a secret of its own a database puts both keys into one of the 64 buckets now and then."""
    secret = "update shared_secret set secret = sha256('apart') where purpose = 'keys'"
    run_apart(execute(storage_url, secret))


async def _send(
    bench: Bench, key: str, count: int = 1, extras: TaskExtras | None = None, **said: Any
) -> list[str]:
    """The ids of new tasks of a key."""
    tasks = [new_task(fair_key=key, extras=extras, payload=key.encode(), **said) for _ in range(count)]
    assert {type(each) for each in await bench.submit(tasks)} == {SubmitAnswer}
    return [task.task_id for task in tasks]


def _keys(runs: Sequence[AssignedRun]) -> Counter[str]:
    return Counter(run.payload.decode() for run in runs)


async def _end(bench: Bench, link: Link, at: int = 0, outcome: Outcome = Outcome.COMPLETED) -> AssignedRun:
    """One run ends; the one that begins after it."""
    before = len(link.runs)
    await bench.report([end_of(link.runs[at], outcome)])
    return (await link.until_runs(before + 1))[before]


async def _lanes(bench: Bench) -> set[tuple[str, bool, bool]]:
    """Of all tasks: key, whether its lane is followed, and whether it has a bucket."""
    rows = await bench.database.fetch(
        "select fair_key, followed, bucket > 0 from task join lane on lane.id = lane"
    )
    return {tuple(row) for row in rows}


async def test_the_only_task_of_a_key_is_next_however_many_wait_of_another(bench: Bench) -> None:
    await _send(bench, ADA, 300)
    _, link = await bench.worker(4)
    await link.until_runs(4)
    await _send(bench, BEN)
    assert (await _end(bench, link)).payload == BEN.encode()
    assert (await _end(bench, link, at=1)).payload == ADA.encode()


async def test_what_a_worker_takes_at_once_is_shared_evenly(bench: Bench) -> None:
    await _send(bench, ADA, 50)
    await _send(bench, BEN, 50)
    await bench.submit([new_task(payload=b"none") for _ in range(50)])
    _, link = await bench.worker(9)
    assert _keys(await link.until_runs(9)) == {ADA: 3, BEN: 3, "none": 3}


async def test_lanes_that_another_broker_tells_of_have_one_turn_together(
    bench: Bench, storage_url: str
) -> None:
    """Their work is known before their names are: until then each has a turn of its own (rule 33)."""
    async with running_engine(storage_url) as other:
        schedule = other.engine.dispatcher._schedule
        for number in range(8):
            await _send(bench, f"key {number}", 10)
        await bench.submit([new_task(name="other", payload=b"other") for _ in range(40)])
        told = [
            (row[0], row[1]) for row in await bench.database.fetch("select distinct lane, rank from ready")
        ]
        assert len(told) > 4
        other.engine.dispatcher.wake(told, local=False)
        async with asyncio.timeout(60):
            while not {lane for lane, _ in told} <= other.engine.directory.names.keys():
                await asyncio.sleep(0.01)
        assert len([*schedule._rotation._places]) == 2


@pytest.mark.parametrize(
    "limit",
    [DeclaredLimit("task", "work", 1), DeclaredLimit("queue", "default", 0, Rate(1000, 1000, 1))],
)
async def test_keys_take_turns_under_a_limit(bench: Bench, limit: DeclaredLimit) -> None:
    await _send(bench, ADA, 20)
    await _send(bench, BEN, 20)
    _, link = await bench.worker(10, limits=[limit])
    await link.until_runs(1)
    for at in range(9):
        await _end(bench, link, at)
    assert abs(_keys(link.runs[:10])[ADA] - 5) <= 1


async def test_a_task_keeps_its_key_through_delays_retries_and_seats(bench: Bench) -> None:
    _, link = await bench.worker(10)
    delayed, debounced = TaskExtras(delay_ms=1), TaskExtras(delay_ms=1, debounce_key="d")
    await _send(bench, ADA, 1, delayed)
    await _send(bench, BEN, 1, debounced)
    await _send(bench, "seat", concurrency_key="c")
    for run in list(await link.until_runs(3)):
        await bench.report([end_of(run, Outcome.FAILED)])
        assert await bench.engine.cancels.retry([run.task_id]) == [RetryOutcome.REQUEUED]
    await link.until_runs(6)
    assert await _lanes(bench) == {(ADA, False, True), (BEN, False, True), ("seat", True, True)}


async def test_leases_are_counted_until_they_end_or_leave(bench: Bench) -> None:
    await _send(bench, ADA, 3)
    await _send(bench, BEN, 3)
    session, link = await bench.worker(6)
    await link.until_runs(6)
    counts = bench.engine.sessions.leases_by_lane
    assert sorted(counts.values()) == [3, 3]
    await bench.report([end_of(run, Outcome.COMPLETED) for run in link.runs[:2]])
    assert sum(counts.values()) == 4
    bench.engine.sessions.leave(session)
    assert set(counts.values()) == {0}


async def test_counts_and_views_know_a_queue_and_a_name_and_not_their_buckets(bench: Bench) -> None:
    for number in range(10):
        await _send(bench, f"key {number}")
    assert list(bench.database.counters.submitted.values()) == [10]
    strange = await ClusterStore(bench.database).strange_tasks(["default"], 5)
    assert [(each.queue, each.name) for each in strange] == [("default", "work")]
