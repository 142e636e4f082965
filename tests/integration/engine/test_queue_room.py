"""A queue takes no more tasks than may wait in it, says so, and costs nothing where there is no maximum."""

import asyncio
from collections.abc import Sequence

from hyrex_broker.domain.errors import QueueAtMaximum
from hyrex_broker.domain.model import SubmitAnswer, SubmitOutcome, TaskExtras
from hyrex_broker.engine.submit import rooms
from hyrex_broker.engine.submit.intake import Answer
from hyrex_broker.storage.depths import DepthStore
from hyrex_broker.storage.queues import QueueStore
from tests.integration.engine.bench import Bench, running_engine
from tests.integration.storage.stage import NewTask, block_of, new_task


async def bounded(bench: Bench, most: int, queue: str = "default") -> None:
    await QueueStore(bench.database).update(queue, paused=None, limit=None, max_waiting=most)
    await bench.engine.directory.refresh()


def stored(answers: Sequence[Answer]) -> int:
    return sum(isinstance(each, SubmitAnswer) and each.outcome is SubmitOutcome.STORED for each in answers)


def refused(answers: Sequence[Answer]) -> list[QueueAtMaximum]:
    return [answer for answer in answers if isinstance(answer, QueueAtMaximum)]


async def rows(bench: Bench) -> int:
    ((count,),) = await bench.database.fetch(
        "select (select count(*) from ready) + (select count(*) from delayed)"
    )
    return int(count)


async def until_there_is_room(bench: Bench, task: NewTask) -> Answer:
    """As a sender does: again and again, as the refusal says."""
    async with asyncio.timeout(60):
        while isinstance(answer := (await bench.submit([task]))[0], QueueAtMaximum):
            await asyncio.sleep(answer.retry_after_s)
    return answer


async def test_a_queue_takes_its_maximum_and_refuses_the_rest_by_name(bench: Bench) -> None:
    await bounded(bench, 3)
    later = TaskExtras(delay_ms=3_600_000)
    answers = await bench.submit([new_task(), new_task(extras=later), *[new_task() for _ in range(4)]])
    assert (stored(answers), len(refused(answers))) == (3, 3)
    assert await rows(bench) == 3
    error = refused(answers)[0]
    assert error.metadata == {"queue": "default", "limit": "3"}
    assert "'default'" in error.message
    assert 0 < error.retry_after_s <= 1
    assert stored(await bench.submit([new_task(queue="other")])) == 1


async def test_the_first_tasks_of_a_block_find_room(bench: Bench) -> None:
    await bounded(bench, 2)
    tasks = [new_task() for _ in range(3)]
    block = block_of(tasks[0])
    block.ids, block.payloads, block.digests = (
        [each for task in tasks for each in block_of(task).ids],
        [each for task in tasks for each in block_of(task).payloads],
        [each for task in tasks for each in block_of(task).digests],
    )
    (others,) = await bench.engine.intake.submit([block])
    assert list(others) == [2]
    assert isinstance(others[2], QueueAtMaximum)


async def test_what_is_stored_already_needs_no_room(bench: Bench) -> None:
    """A sender that lost its answer asks again; a definite refusal would say that nothing is stored."""
    await bounded(bench, 2)
    plain, keyed = new_task(), new_task(key="once")
    assert stored(await bench.submit([plain, keyed])) == 2
    same_key = new_task(key="once")
    again = await bench.submit([plain, keyed, same_key, new_task()])
    outcomes = [each.outcome for each in again if isinstance(each, SubmitAnswer)]
    assert outcomes == [SubmitOutcome.REPEATED, SubmitOutcome.REPEATED, SubmitOutcome.DEDUPLICATED]
    assert len(refused(again)) == 1


async def test_room_that_others_made_is_found_again(bench: Bench, storage_url: str) -> None:
    """A worker of another broker took what waited."""
    await bounded(bench, 2)
    answers = await bench.submit([new_task() for _ in range(3)])
    assert len(refused(answers)) == 1
    async with running_engine(storage_url) as other:
        _, link = await other.worker()
        await link.until_runs(2)
        assert isinstance(await until_there_is_room(bench, new_task()), SubmitAnswer)


async def test_many_brokers_and_callers_exceed_a_maximum_by_what_comes_in_at_one_look(
    bench: Bench, storage_url: str
) -> None:
    most = 100
    await bounded(bench, most)
    async with running_engine(storage_url) as other:
        calls = [each.submit([new_task() for _ in range(20)]) for each in (bench, other) for _ in range(20)]
        answers = await asyncio.gather(*calls)
    assert most <= sum(map(stored, answers)) <= 2 * most
    assert await rows(bench) <= 2 * most


async def test_a_maximum_that_is_removed_or_raised_holds_no_more(bench: Bench) -> None:
    await bounded(bench, 1)
    assert len(refused(await bench.submit([new_task(), new_task()]))) == 1
    await bounded(bench, 3)
    assert stored(await bench.submit([new_task(), new_task()])) == 2
    await bounded(bench, 0)
    assert stored(await bench.submit([new_task() for _ in range(20)])) == 20


async def test_a_look_counts_no_further_than_the_maximum(bench: Bench) -> None:
    await bench.submit([new_task(name=name) for name in ("work", "else") for _ in range(20)])
    depths = DepthStore(bench.database)
    assert await depths.of_queue("default", 1000) == 40
    assert 10 <= await depths.of_queue("default", 10) <= 20
    assert await depths.of_queue("nowhere", 10) == 0


async def test_a_queue_without_a_maximum_is_not_looked_at(bench: Bench) -> None:
    await bench.submit([new_task()])
    await bounded(bench, 1, "other")
    await bench.submit([new_task() for _ in range(5)])
    assert not bench.engine.intake._rooms._rooms


async def test_looks_at_a_full_queue_are_few(bench: Bench) -> None:
    """However often somebody is refused."""
    await bounded(bench, 1)
    looks = 0
    of_queue = bench.engine.intake._rooms._waiting.of_queue

    class Counting:
        async def of_queue(self, queue: str, most: int) -> int:
            nonlocal looks
            looks += 1
            return await of_queue(queue, most)

    bench.engine.intake._rooms._waiting = Counting()
    began = asyncio.get_running_loop().time()
    for _ in range(200):
        await bench.submit([new_task()])
    took = asyncio.get_running_loop().time() - began
    assert 1 <= looks <= 2 + took / rooms._SHORTEST_PAUSE_S
