"""One bad item never harms its batch, and one caller's impatience nobody else (rule 6)."""

import asyncio
from collections.abc import Sequence
from dataclasses import replace

import pytest

from hyrex_broker.domain.errors import InvalidField, StorageUnavailable, TaskIdConflict
from hyrex_broker.domain.keys import KeyHit, KeyHolder
from hyrex_broker.domain.model import Outcome, Receipt, RunEnd, SubmitAnswer, SubmitOutcome, TaskExtras
from hyrex_broker.domain.states import TaskState
from hyrex_broker.engine.batching import (
    BATCH_BYTES,
    BATCH_ITEMS,
    Batcher,
    Cutting,
    StatementSlot,
)
from hyrex_broker.storage.report import ReportStore
from hyrex_broker.storage.sqlstates import StatementRefused
from tests.integration.engine.bench import Bench
from tests.integration.storage.stage import end_of, make_id, new_task
from tests.support.loops import settle

_BAD = {
    "an id without a partition": lambda: new_task(make_id(1)),
    "NUL in a label": lambda: new_task(extras=TaskExtras(labels={"a": "\0"})),
    "an oversized key": lambda: new_task(key="".join(map(chr, range(200, 6000)))),
}


@pytest.mark.parametrize("kind", list(_BAD))
async def test_the_culprit_alone_is_refused(bench: Bench, kind: str) -> None:
    tasks = [new_task() for _ in range(20)]
    tasks.insert(7, _BAD[kind]())
    answers = await bench.submit(tasks)
    assert [isinstance(answer, InvalidField) for answer in answers] == [n == 7 for n in range(21)]
    assert sum(isinstance(answer, SubmitAnswer) for answer in answers) == 20


async def test_one_batch_may_repeat_conflict_and_share_keys(bench: Bench) -> None:
    task, keyed = new_task(), new_task(key="k")
    await bench.submit([task, keyed])
    other = new_task(task.task_id, digest=1)
    late = new_task(key="k")
    fresh = new_task()
    repeated, conflict, shared, stored, twice = await bench.submit([task, other, late, fresh, fresh])
    assert repeated == SubmitAnswer(task.task_id, SubmitOutcome.REPEATED)
    assert isinstance(conflict, TaskIdConflict)
    holder = KeyHolder(keyed.task_id, TaskState.QUEUED, payload_differs=False)
    assert shared == KeyHit(keyed.task_id, SubmitOutcome.DEDUPLICATED, holder)
    assert stored == SubmitAnswer(fresh.task_id, SubmitOutcome.STORED)
    assert twice == SubmitAnswer(fresh.task_id, SubmitOutcome.REPEATED)


async def test_an_unstorable_report_becomes_a_failed_run_that_says_so(bench: Bench) -> None:
    _, link = await bench.worker()
    good, bad = new_task(max_retries=3), new_task(max_retries=3)
    await bench.submit([good, bad])
    runs = {run.task_id: run for run in await link.until_runs(2)}
    receipts = await bench.report(
        [
            end_of(runs[good.task_id], Outcome.COMPLETED),
            end_of(runs[bad.task_id], Outcome.COMPLETED, content_type="\0"),
        ]
    )
    assert list(receipts) == [Receipt.ACCEPTED, Receipt.ACCEPTED]
    rows = {str(row["task_id"]): row for row in await bench.database.fetch("select * from task_run")}
    assert rows[good.task_id]["outcome"] == Outcome.COMPLETED
    assert rows[bad.task_id]["outcome"] == Outcome.FAILED
    assert rows[bad.task_id]["error_type"] == "UnstorableResult"
    assert rows[bad.task_id]["final"]


async def test_a_caller_that_goes_away_cancels_nobody(bench: Bench) -> None:
    first = asyncio.ensure_future(bench.submit([new_task()]))
    second = asyncio.ensure_future(bench.submit([new_task()]))
    await asyncio.sleep(0)
    first.cancel()
    (answer,) = await second
    assert isinstance(answer, SubmitAnswer)


async def test_a_batch_that_cannot_be_stored_fails_each_of_its_callers() -> None:
    async def away(items: Sequence[int], statement: StatementSlot) -> Sequence[int]:
        raise StorageUnavailable("away")

    batcher: Batcher[int, int] = Batcher(away, _never, _no_size)
    running = asyncio.ensure_future(batcher.run())
    for future in (batcher.add([1]), batcher.add([2])):
        with pytest.raises(StorageUnavailable):
            await future
    running.cancel()


def _no_size(item: int) -> int:
    return 0


async def _never(item: int, error: StatementRefused) -> int:
    raise AssertionError


async def test_a_culprit_is_found_inside_a_block_and_blocks_count_as_what_they_hold() -> None:
    batches: list[list[str]] = []

    async def store(items: Sequence[str], statement: StatementSlot) -> Sequence[str]:
        batches.append(list(items))
        await asyncio.sleep(0)
        if any("x" in item for item in items):
            raise StatementRefused(ValueError("no x"))
        return [item.upper() for item in items]

    async def refused(item: str, error: StatementRefused) -> str:
        return f"[{item}]"

    cutting: Cutting[str, str] = Cutting(
        len,
        lambda item: (item[: len(item) // 2], item[len(item) // 2 :]),
        lambda item, first, second: first + second,
    )
    batcher = Batcher(store, refused, lambda item: 0, cutting)
    futures = [batcher.add(["abcxe", "fg"]), batcher.add(["i"]), batcher.add(["h" * BATCH_ITEMS])]
    running = asyncio.ensure_future(batcher.run())
    assert [list(await future) for future in futures] == [["ABC[x]E", "FG"], ["I"], ["H" * BATCH_ITEMS]]
    assert ["abcxe", "fg", "i"] in batches
    assert ["h" * BATCH_ITEMS] in batches  # by what it holds it is no small one
    running.cancel()


async def test_a_resent_report_is_a_duplicate_and_a_made_up_one_stale(bench: Bench) -> None:
    _, link = await bench.worker()
    await bench.submit([new_task()])
    (run,) = await link.until_runs(1)
    end = end_of(run, Outcome.COMPLETED)
    made_up = replace(end, task_id=make_id())
    assert await bench.report([end]) == [Receipt.ACCEPTED]
    assert await bench.report([end]) == [Receipt.DUPLICATE]
    assert await bench.report([made_up]) == [Receipt.STALE]


async def test_a_batch_is_bounded_in_bytes_as_well_as_in_items() -> None:
    batches: list[list[int]] = []

    async def store(items: Sequence[int], statement: StatementSlot) -> Sequence[int]:
        batches.append(list(items))
        await asyncio.sleep(0)
        return items

    batcher: Batcher[int, int] = Batcher(store, _never, lambda size: size)
    large = BATCH_BYTES // 4
    futures = [batcher.add([large]) for _ in range(10)] + [
        batcher.add([2 * BATCH_BYTES]),
        batcher.add([1, 1]),
    ]
    running = asyncio.ensure_future(batcher.run())
    answers = [await future for future in futures]
    running.cancel()
    assert answers == [[large]] * 10 + [[2 * BATCH_BYTES], [1, 1]]
    assert all(sum(batch) <= BATCH_BYTES or len(batch) == 1 for batch in batches)
    assert len(batches) == 5


async def test_the_next_batch_begins_when_the_turn_is_passed_on_and_not_before() -> None:
    answered, may_end, sizes = asyncio.Event(), asyncio.Event(), []

    async def store(items: Sequence[int], statement: StatementSlot) -> Sequence[int]:
        sizes.append(len(items))
        await answered.wait()
        await statement.pass_on()
        await may_end.wait()
        return items

    batcher: Batcher[int, int] = Batcher(store, _never, _no_size)
    running = asyncio.ensure_future(batcher.run())
    await asyncio.sleep(0)
    futures = [batcher.add(range(100)), batcher.add(range(100))]
    await settle()
    futures += [batcher.add(range(100)) for _ in range(BATCH_ITEMS // 100 + 1)]
    await settle()
    assert sizes == [200]
    answered.set()
    await settle()
    assert sizes == [200, BATCH_ITEMS, 100]
    may_end.set()
    await asyncio.gather(*futures)
    running.cancel()


@pytest.mark.parametrize("with_little", [True, False])
async def test_bulk_is_answered_before_its_next_statement_if_somebody_has_little(with_little: bool) -> None:
    """Else bulk keeps both cores at work all the time, and whoever sends one task waits for one at each of
    its steps. Without such a caller Postgres is not to be idle."""
    answered = []
    futures: list[asyncio.Future[Sequence[int]]] = []

    async def store(items: Sequence[int], statement: StatementSlot) -> Sequence[int]:
        if len(items) > 1:
            answered.append(sum(future.done() for future in futures))
        await asyncio.sleep(0)
        await statement.pass_on()
        return items

    batcher: Batcher[int, int] = Batcher(store, _never, _no_size)
    running = asyncio.ensure_future(batcher.run())
    futures += [batcher.add(range(50), caller) for _ in range(2) for caller in range(BATCH_ITEMS // 50)]
    if with_little:
        assert await batcher.add([1], "little") == [1]
    await asyncio.gather(*futures)
    running.cancel()
    first, second = answered
    assert first == 0
    assert second == (BATCH_ITEMS // 50 if with_little else 0)


async def test_batches_whose_answers_take_long_do_not_pile_up() -> None:
    may_end, begun = asyncio.Event(), []

    async def store(items: Sequence[int], statement: StatementSlot) -> Sequence[int]:
        begun.append(len(items))
        await statement.pass_on()
        await may_end.wait()
        return items

    batcher: Batcher[int, int] = Batcher(store, _never, _no_size)
    running = asyncio.ensure_future(batcher.run())
    futures = [batcher.add(range(BATCH_ITEMS)) for _ in range(20)]
    await settle()
    assert len(begun) == 4
    may_end.set()
    await asyncio.gather(*futures)
    assert len(begun) == 20
    running.cancel()


async def test_reports_that_take_too_long_together_are_recorded_in_portions(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, link = await bench.worker(capacity=20)
    await bench.submit([new_task() for _ in range(16)])
    runs = await link.until_runs(16)
    end, sizes = ReportStore.end, []

    async def slow(self: ReportStore, ends: Sequence[RunEnd]) -> object:
        sizes.append(len(ends))
        if len(ends) > 5:
            raise StorageUnavailable("too large", timed_out=True)
        return await end(self, ends)

    monkeypatch.setattr(ReportStore, "end", slow)
    receipts = await bench.report([end_of(run, Outcome.FAILED) for run in runs])
    assert list(receipts) == [Receipt.ACCEPTED] * 16
    assert sizes == [16, 8, 4, 4, 4, 4]


async def test_a_report_that_cannot_be_stored_in_any_form_harms_nobody(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, link = await bench.worker()
    await bench.submit([new_task(), new_task()])
    good, bad = await link.until_runs(2)
    end = ReportStore.end

    async def refuses(self: ReportStore, ends: Sequence[RunEnd]) -> object:
        if any(each.token == bad.token for each in ends):
            raise StatementRefused(ValueError("no"))
        return await end(self, ends)

    monkeypatch.setattr(ReportStore, "end", refuses)
    ends = [end_of(good, Outcome.FAILED), end_of(bad, Outcome.FAILED)]
    assert list(await bench.report(ends)) == [Receipt.ACCEPTED, Receipt.STALE]


async def test_the_loop_is_not_kept_by_a_batch_with_many_to_answer() -> None:
    """Their callers wake, write and read on: all of them at once would hold everybody else up."""

    async def store(items: Sequence[int], statement: StatementSlot) -> Sequence[int]:
        return items

    batcher: Batcher[int, int] = Batcher(store, _never, _no_size)
    futures = [batcher.add([number], number) for number in range(64)]
    running = asyncio.ensure_future(batcher.run())
    steps, before = [], 0
    while before < len(futures):
        await asyncio.sleep(0)
        now = sum(future.done() for future in futures)
        steps.append(now - before)
        before = now
    assert max(steps) <= 8
    running.cancel()


async def test_what_is_stored_is_answered_although_the_broker_stops() -> None:
    async def store(items: Sequence[int], statement: StatementSlot) -> Sequence[int]:
        return items

    batcher: Batcher[int, int] = Batcher(store, _never, _no_size)
    futures = [batcher.add([number], number) for number in range(64)]
    running = asyncio.ensure_future(batcher.run())
    while not futures[0].done():
        await asyncio.sleep(0)
    assert not futures[-1].done()
    running.cancel()
    assert [list(await future) for future in futures] == [[number] for number in range(64)]
