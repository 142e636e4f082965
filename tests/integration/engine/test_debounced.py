"""Tasks with debounce keys through a whole engine."""

import asyncio
from dataclasses import replace
from datetime import timedelta

from hyrex_broker.domain.errors import QueueAtMaximum
from hyrex_broker.domain.keys import KeyHit
from hyrex_broker.domain.model import SubmitAnswer, SubmitOutcome, TaskExtras
from hyrex_broker.domain.states import TaskState
from hyrex_broker.storage.queues import QueueChange, QueueStore
from tests.integration.engine.bench import Bench
from tests.integration.storage.stage import new_task

HOUR = TaskExtras(delay_ms=3_600_000, debounce_key="doc-7")


async def test_a_send_that_moves_another_task_is_answered_with_that_one(bench: Bench) -> None:
    """Among tasks of other kinds, in one submit; a repetition is told as such."""
    first, second, plain = new_task(extras=HOUR), new_task(extras=HOUR, payload=b"[]"), new_task()
    delayed = new_task(extras=TaskExtras(delay_ms=3_600_000))
    await bench.submit([first])
    answers = await bench.submit([plain, second, delayed, first])
    stored = SubmitOutcome.STORED
    assert answers[0] == SubmitAnswer(plain.task_id, stored)
    assert answers[2] == SubmitAnswer(delayed.task_id, stored)
    assert answers[3] == SubmitAnswer(first.task_id, SubmitOutcome.REPEATED)
    hit = answers[1]
    assert isinstance(hit, KeyHit)
    assert (hit.task_id, hit.outcome) == (first.task_id, SubmitOutcome.DEDUPLICATED)
    assert hit.holder.state is TaskState.SCHEDULED
    assert hit.holder.payload_differs


async def test_a_debounced_task_runs_once_at_its_last_time(bench: Bench) -> None:
    _, link = await bench.worker()
    first = new_task(extras=HOUR)
    await bench.submit([first])
    await bench.submit([new_task(extras=replace(HOUR, delay_ms=1))])
    (run,) = await link.until_runs(1)
    assert run.task_id == first.task_id
    anew = new_task(extras=replace(HOUR, delay_ms=1))
    await bench.submit([anew])
    assert [each.task_id for each in await link.until_runs(2)] == [first.task_id, anew.task_id]


async def full(bench: Bench) -> None:
    """One task may wait, and one does."""
    await QueueStore(bench.database).update("default", QueueChange(max_waiting=1))
    await bench.engine.directory.refresh()


async def test_a_send_that_moves_another_task_needs_no_room(bench: Bench) -> None:
    """Not even among others, some of which are refused; what would be stored is refused as ever."""
    first = new_task(extras=HOUR)
    await bench.submit([first])
    await full(bench)
    later = replace(HOUR, delay_ms=2 * 3_600_000)
    other = new_task(extras=replace(HOUR, debounce_key="doc-8"))
    mover, plain = new_task(extras=later, payload=b"[]"), new_task()
    answers = await bench.submit([plain, mover, other, first])
    assert [type(answer) for answer in answers] == [QueueAtMaximum, KeyHit, QueueAtMaximum, SubmitAnswer]
    hit = answers[1]
    assert isinstance(hit, KeyHit)
    assert (hit.task_id, hit.holder.payload_differs) == (first.task_id, True)
    ((left, keys),) = await bench.database.fetch(
        "select (select run_at - now() from delayed), (select array_agg(key) from debounce)"
    )
    assert left > timedelta(minutes=110)
    assert keys == ["doc-7"], "the refused one took no key"


async def test_a_debounced_task_that_has_begun_is_moved_by_nobody_in_a_full_queue(bench: Bench) -> None:
    first = new_task(extras=replace(HOUR, delay_ms=1))
    await bench.submit([first])
    async with asyncio.timeout(60):
        while await bench.database.fetch("select from delayed"):
            await asyncio.sleep(0.01)
    await full(bench)
    (answer,) = await bench.submit([new_task(extras=HOUR)])
    assert isinstance(answer, QueueAtMaximum)
    ((key,),) = await bench.database.fetch("select task_id::text from debounce")
    assert key == first.task_id
