"""Direct hand-off of tasks with concurrency keys, through a whole engine."""

import asyncio
from typing import Any

import pytest

from hyrex_broker.domain.errors import KeyAtMaximum
from hyrex_broker.domain.model import Outcome, SubmitAnswer
from hyrex_broker.storage.keyed import KeyedStore
from tests.integration.engine.bench import Bench
from tests.integration.storage.keys import keyed
from tests.integration.storage.stage import end_of, new_task
from tests.integration.storage.waits import until_blocked
from tests.support.postgres import connect


@pytest.fixture
def statements(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Which statements stored tasks with concurrency keys, in their order."""
    told: list[str] = []

    def note(name: str) -> None:
        call = getattr(KeyedStore, name)

        async def noted(self: KeyedStore, *args: Any) -> Any:
            told.append(name)
            return await call(self, *args)

        monkeypatch.setattr(KeyedStore, name, noted)

    note("submit")
    note("submit_handing_off")
    return told


async def count(bench: Bench, table: str) -> int:
    return int((await bench.database.fetch(f"select count(*) from {table}"))[0][0])


async def test_a_keyed_task_goes_straight_to_a_free_worker(bench: Bench, statements: list[str]) -> None:
    _, link = await bench.worker()
    first, second = keyed(), keyed()
    await bench.submit([first, second, keyed("b")])
    assert await count(bench, "ready") == 0
    runs = await link.until_runs(2)
    (run,) = [each for each in runs if each.task_id == first.task_id]
    assert (run.name, run.payload) == (first.terms.name, first.payload)
    assert statements == ["submit_handing_off"]
    await bench.report([end_of(run, Outcome.COMPLETED)])
    assert (await link.until_runs(3))[2].task_id == second.task_id


async def test_what_finds_no_worker_is_ready_with_its_seat(bench: Bench) -> None:
    await bench.worker(capacity=1)
    await bench.submit([keyed(key) for key in "abc"])
    assert [await count(bench, table) for table in ("lease", "ready", "seat")] == [1, 2, 3]


async def test_each_task_of_a_batch_that_is_handed_off_is_answered(
    bench: Bench, statements: list[str]
) -> None:
    _, link = await bench.worker()
    holder = keyed("a")
    tasks = [holder, keyed("a", refuses=True), keyed("b"), keyed("a")]
    answers = await bench.submit(tasks)
    kinds = ["SubmitAnswer", "KeyAtMaximum", "SubmitAnswer", "SubmitAnswer"]
    assert [type(each).__name__ for each in answers] == kinds
    assert isinstance(answers[1], KeyAtMaximum)
    assert answers[1].metadata["holder"] == holder.task_id
    assert {run.task_id for run in await link.until_runs(2)} == {holder.task_id, tasks[2].task_id}
    assert statements == ["submit_handing_off"]
    again = await bench.submit([holder, tasks[3]])
    assert [each.outcome.name for each in again if isinstance(each, SubmitAnswer)] == ["REPEATED"] * 2
    assert [await count(bench, table) for table in ("lease", "seat", "blocked")] == [2, 2, 1]


async def test_what_may_wait_for_its_time_or_another_task_is_not_handed_off(
    bench: Bench, statements: list[str]
) -> None:
    _, link = await bench.worker()
    once, again = keyed("a", 9), keyed("a", 9)
    once.key = again.key = "once"
    answers = [*await bench.submit([once]), *await bench.submit([again])]
    told = [each.outcome.name for each in answers if isinstance(each, SubmitAnswer)]
    assert told == ["STORED", "DEDUPLICATED"]
    await bench.submit([keyed("b", delay_ms=60_000)])
    await link.until_runs(1)
    assert "submit_handing_off" not in statements
    assert [await count(bench, table) for table in ("lease", "delayed")] == [1, 1]


async def test_plain_tasks_get_their_slots_while_a_stripe_is_held(
    bench: Bench, statements: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rule 42. Slots are kept while a statement runs: those of one that waits for a stripe would be nobody's.
    After such a wait nothing with a key is handed off for some time."""
    _, link = await bench.worker(capacity=1)
    hashed = await bench.engine.intake._keyed_store._hasher.hash(("default", "work", "a"))
    other = await connect(bench.database.url)
    try:
        async with other.transaction():
            await other.execute("set search_path = hyrex")
            await other.execute("select lock_stripes(array[$1::bigint])", hashed)
            waiting = asyncio.create_task(bench.submit([keyed("a")]))
            await until_blocked(other)
            await bench.submit([new_task()])
            await link.until_runs(1)
            assert not waiting.done()
    finally:
        await other.close()
    await waiting
    assert statements == ["submit_handing_off", "submit"]
    await bench.report([end_of(link.runs[0], Outcome.COMPLETED)])
    for number, key in enumerate("bc", 2):
        await bench.report([end_of((await link.until_runs(number))[-1], Outcome.COMPLETED)])
        await until_open(bench)
        await bench.submit([keyed(key)])
        monkeypatch.setattr(bench.engine.intake._keyed_store, "_hands_off_from", 0.0)
    assert statements[2:] == ["submit", "submit_handing_off"]


async def until_open(bench: Bench) -> None:
    """Wait until a task with a key might be handed off: nothing is ready, as far as the dispatcher knows."""
    lanes = [row[0] for row in await bench.database.fetch("select id from lane where followed")]
    async with asyncio.timeout(60):
        while not bench.engine.dispatcher.reserve_slots(dict.fromkeys(lanes, 1)):
            await asyncio.sleep(0.01)
