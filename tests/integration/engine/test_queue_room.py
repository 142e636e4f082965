"""A queue takes no more tasks than may wait in it, says so, and costs nothing where there is no maximum."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import pytest

from hyrex.v1 import task_pb2, task_service_pb2
from hyrex_broker.domain.errors import BrokerError, QueueAtMaximum
from hyrex_broker.domain.model import SubmitAnswer, SubmitOutcome, TaskExtras
from hyrex_broker.engine.submit import rooms
from hyrex_broker.engine.submit.answers import Answer
from hyrex_broker.service import errors, submit
from hyrex_broker.service.errors import to_item_error
from hyrex_broker.service.submit import SubmitChecker
from hyrex_broker.storage.depths import DepthStore
from hyrex_broker.storage.pool import Database
from hyrex_broker.storage.queues import QueueChange, QueueStore
from hyrex_broker.storage.reads import TaskReads
from hyrex_broker.storage.submit import SubmitStore
from tests.integration.engine.bench import Bench, running_engine
from tests.integration.storage.stage import NewTask, Stage, block_of, make_id, new_task


async def bounded(bench: Bench, most: int, queue: str = "default") -> None:
    await QueueStore(bench.database).update(queue, QueueChange(max_waiting=most))
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
    assert error.retry_after_s > 0
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
    (others,) = await bench.engine.intake.submission([block])()
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
    intake = bench.engine.intake
    assert not intake._bounded._rooms._rooms
    submission = intake.submission([block_of(new_task())])
    assert isinstance(submission, partial)
    assert submission.func == intake._submit


async def test_looks_at_a_full_queue_are_few(bench: Bench) -> None:
    """However often somebody is refused."""
    await bounded(bench, 1)
    looks = 0
    of_queue = bench.engine.intake._bounded._rooms._waiting.of_queue

    class Counting:
        async def of_queue(self, queue: str, most: int) -> int:
            nonlocal looks
            looks += 1
            return await of_queue(queue, most)

    bench.engine.intake._bounded._rooms._waiting = Counting()
    began = asyncio.get_running_loop().time()
    for _ in range(200):
        await bench.submit([new_task()])
    took = asyncio.get_running_loop().time() - began
    assert 1 <= looks <= 2 + took / rooms._SHORTEST_PAUSE_S


class Attempt:
    """An attempt of a lost broker to store a task, whose commit is still to come."""

    def __init__(self, database: Database, own: int) -> None:
        self._database = database
        self._own = own

    async def waiting(self) -> int:
        """The backend of another attempt, which waits for this one."""
        async with asyncio.timeout(60):
            while not (found := await self._database.fetch(_BLOCKED, self._own, read=True)):
                await asyncio.sleep(0.01)
        return int(found[0][0])

    async def break_off(self, backend: int) -> None:
        """End a backend."""
        await self._database.fetch("select pg_terminate_backend($1)", backend, read=True)


_BLOCKED = "select pid from pg_stat_activity where $1 = any (pg_blocking_pids(pid))"


@asynccontextmanager
async def attempting(storage_url: str, task: NewTask) -> AsyncIterator[Attempt]:
    """An attempt to store a task whose commit comes at the end of the block."""
    async with Stage.on(storage_url, connections=2) as stage:
        lane = await stage.lane()
        async with stage.database.transaction() as transaction:
            row = await transaction.fetchrow(_HALF_STORED, task.task_id, lane, task.digest, task.payload)
            assert row is not None
            yield Attempt(stage.database, row[0])


_HALF_STORED = """
with stored as (insert into task (id, lane, rank, max_retries, digest, payload) values ($1, $2, 5, 0, $3, $4)
                returning id, lane, rank),
queued as (insert into ready (task_id, lane, rank, arrival, run_number, attempt_number, redeliveries,
                              releases, alone)
           select id, lane, rank, now(), 0, 0, 0, 0, false from stored)
select pg_backend_pid()
"""


async def test_a_task_that_an_earlier_attempt_may_have_stored_is_not_refused(
    bench: Bench, storage_url: str
) -> None:
    """The broker's connection broke while it stored the last task for which there was room. It tries again,
    and finds neither room nor the task, whose commit is still to come."""
    await bounded(bench, 1)
    checker = SubmitChecker(bench.engine.intake, 1000, bench.database.availability, TaskReads(bench.database))
    task = new_task()
    wire = task_pb2.NewTask(task_id=task.task_id, name="work", queue="default", payload=b"{}")
    results = task_service_pb2.SubmitTasksResponse().results
    async with attempting(storage_url, task) as earlier:
        submitting = asyncio.ensure_future(checker.submit([wire], results))
        broken = await earlier.waiting()
        await earlier.break_off(broken)
        again = asyncio.ensure_future(earlier.waiting())
        await asyncio.wait({submitting, again}, return_when=asyncio.FIRST_COMPLETED)
        again.cancel()
        assert not submitting.done(), results
    await asyncio.wait_for(submitting, 60)
    assert results[0].error.reason == "TASK_ID_CONFLICT", "the other one had another digest"


async def test_a_task_whose_caller_is_gone_takes_room_until_it_is_stored(
    bench: Bench, storage_url: str
) -> None:
    await bounded(bench, 1)
    task = new_task()
    room = bench.engine.intake._bounded._rooms
    async with attempting(storage_url, task) as earlier:
        submitting = asyncio.ensure_future(bench.submit([task]))
        await earlier.waiting()
        submitting.cancel()
        await asyncio.gather(submitting, return_exceptions=True)
        await room._look("default", room._rooms["default"])
        assert await room.take("default", 1, 1) == 0
    async with asyncio.timeout(60):
        while room._rooms["default"].pending:
            await asyncio.sleep(0.01)


async def test_what_is_refused_of_a_request_is_looked_up_together_and_nothing_is_confirmed(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    await bounded(bench, 1)
    await bench.submit([new_task()])
    calls: list[str] = []
    for owner, name in ((SubmitStore, "classify"), (Database, "confirm")):
        real = getattr(owner, name)

        async def counting(*args: object, real: Any = real, name: str = name) -> Any:
            calls.append(name)
            return await real(*args)

        monkeypatch.setattr(owner, name, counting)
    assert len(refused(await bench.submit([new_task(name=f"work-{number}") for number in range(20)]))) == 20
    assert calls == ["classify"]


async def test_the_refusal_of_many_tasks_is_put_into_words_once_and_counts_for_each(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    await bounded(bench, 1)
    await bench.submit([new_task()])
    converted: list[object] = []
    real = to_item_error

    def counting(error: BrokerError) -> task_service_pb2.ItemError:
        converted.append(error)
        return real(error)

    monkeypatch.setattr(submit, "to_item_error", counting)
    checker = SubmitChecker(bench.engine.intake, 1000, bench.database.availability, TaskReads(bench.database))
    tasks = [task_pb2.NewTask(task_id=make_id(), name="work", queue="default") for _ in range(30)]
    results = task_service_pb2.SubmitTasksResponse().results
    before = errors.refused["QUOTA_EXCEEDED"]
    await checker.submit(tasks, results)
    assert {each.error.reason for each in results} == {"QUOTA_EXCEEDED"}
    assert len(converted) == 1
    assert errors.refused["QUOTA_EXCEEDED"] - before == len(tasks)
