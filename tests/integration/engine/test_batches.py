"""One bad item never harms its batch, and one caller's impatience nobody else (rule 6)."""

import asyncio
from collections.abc import Sequence

import pytest

from broker.domain.errors import InvalidField, StorageUnavailable, TaskIdConflict
from broker.domain.model import Outcome, Receipt, RunEnd, SubmitAnswer, Submitted, TaskExtras
from broker.engine.merge import Merger
from broker.storage.pool import StatementRefused
from tests.integration.engine.bench import Bench
from tests.integration.storage.stage import end_of, make_id, new_task

_BAD = {
    "an id without a partition": lambda: new_task(make_id(1)),
    "NUL in a label": lambda: new_task(extras=TaskExtras(labels={"a": "\0"})),
    "an oversized key": lambda: new_task(
        extras=TaskExtras(idempotency_key="".join(map(chr, range(200, 6000))))
    ),
}


@pytest.mark.parametrize("kind", list(_BAD))
async def test_the_culprit_alone_is_refused(bench: Bench, kind: str) -> None:
    tasks = [new_task() for _ in range(20)]
    tasks.insert(7, _BAD[kind]())
    answers = await bench.engine.intake.submit(tasks)
    assert [isinstance(answer, InvalidField) for answer in answers] == [n == 7 for n in range(21)]
    assert sum(isinstance(answer, SubmitAnswer) for answer in answers) == 20


async def test_one_batch_may_repeat_conflict_and_share_keys(bench: Bench) -> None:
    task, keyed = new_task(), new_task(extras=TaskExtras(idempotency_key="k"))
    await bench.engine.intake.submit([task, keyed])
    other = new_task(task.task_id, digest=1)
    late = new_task(extras=TaskExtras(idempotency_key="k"))
    fresh = new_task()
    repeated, conflict, shared, stored, twice = await bench.engine.intake.submit(
        [task, other, late, fresh, fresh]
    )
    assert repeated == SubmitAnswer(task.task_id, Submitted.REPEATED)
    assert isinstance(conflict, TaskIdConflict)
    assert shared == SubmitAnswer(keyed.task_id, Submitted.DEDUPLICATED)
    assert stored == SubmitAnswer(fresh.task_id, Submitted.STORED)
    assert twice == SubmitAnswer(fresh.task_id, Submitted.REPEATED)


async def test_an_unstorable_report_becomes_a_failed_run_that_says_so(bench: Bench) -> None:
    _, link = await bench.worker()
    good, bad = new_task(max_retries=3), new_task(max_retries=3)
    await bench.engine.intake.submit([good, bad])
    runs = {run.task_id: run for run in await link.until_runs(2)}
    receipts = await bench.engine.reports.report(
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
    first = asyncio.ensure_future(bench.engine.intake.submit([new_task()]))
    second = asyncio.ensure_future(bench.engine.intake.submit([new_task()]))
    await asyncio.sleep(0)
    first.cancel()
    (answer,) = await second
    assert isinstance(answer, SubmitAnswer)


async def test_a_batch_that_cannot_be_stored_fails_each_of_its_callers() -> None:
    async def away(items: Sequence[int]) -> Sequence[int]:
        raise StorageUnavailable("away")

    merger: Merger[int, int] = Merger(away, _never)
    running = asyncio.ensure_future(merger.run())
    for future in (merger.add([1]), merger.add([2])):
        with pytest.raises(StorageUnavailable):
            await future
    running.cancel()


async def _never(item: int, error: StatementRefused) -> int:
    raise AssertionError


async def test_a_resent_report_is_a_duplicate_and_a_made_up_one_stale(bench: Bench) -> None:
    _, link = await bench.worker()
    await bench.engine.intake.submit([new_task()])
    (run,) = await link.until_runs(1)
    end = end_of(run, Outcome.COMPLETED)
    made_up = RunEnd(make_id(), run.token, Outcome.COMPLETED)
    assert list(await bench.engine.reports.report([end])) == [Receipt.ACCEPTED]
    assert list(await bench.engine.reports.report([end])) == [Receipt.DUPLICATE]
    assert list(await bench.engine.reports.report([made_up])) == [Receipt.STALE]
