"""Tasks with debounce keys through a whole engine."""

from dataclasses import replace

from hyrex_broker.domain.keys import KeyHit
from hyrex_broker.domain.model import SubmitAnswer, SubmitOutcome, TaskExtras
from hyrex_broker.domain.states import TaskState
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
