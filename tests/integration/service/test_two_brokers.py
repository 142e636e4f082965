"""Two whole brokers on one database: what is done at one is seen at the other."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import grpc.aio
import pytest

from hyrex.v1 import (
    admin_service_pb2,
    admin_service_pb2_grpc,
    queue_service_pb2,
    queue_service_pb2_grpc,
    task_pb2,
    task_service_pb2,
    task_service_pb2_grpc,
)
from hyrex_broker.storage.outbox_install import install
from tests.integration.service.seeding import make_id
from tests.integration.service.stubs import reason_of
from tests.support.groups import grouped
from tests.support.processes import StartBroker


@pytest.fixture
async def channels(start_broker: StartBroker) -> AsyncIterator[list[Any]]:
    addresses = [start_broker("--name", name).address for name in ("first", "second")]
    async with (
        grpc.aio.insecure_channel(addresses[0]) as one,
        grpc.aio.insecure_channel(addresses[1]) as other,
    ):
        yield [one, other]


def new_task(queue: str = "default") -> task_pb2.NewTask:
    return task_pb2.NewTask(task_id=make_id(), name="greet", queue=queue, payload=b"{}")


async def submit(tasks: Any, *new: task_pb2.NewTask) -> list[str]:
    answer = await tasks.SubmitTasks(task_service_pb2.SubmitTasksRequest(tasks=new), timeout=60)
    assert {result.outcome for result in answer.results} == {task_service_pb2.SUBMIT_OUTCOME_STORED}
    return [result.task_id for result in answer.results]


async def test_an_end_at_one_broker_reaches_a_watcher_at_the_other(channels: list[Any]) -> None:
    one, other = (task_service_pb2_grpc.TaskServiceStub(channel) for channel in channels)
    ids = await submit(one, new_task(), new_task("mail"))
    watch = other.WatchTasks(task_service_pb2.WatchTasksRequest(task_ids=ids), timeout=60)
    assert {task.status for task in (await watch.read()).tasks} == {task_pb2.TASK_STATUS_QUEUED}
    cancelled = await one.CancelTasks(task_service_pb2.CancelTasksRequest(task_ids=ids[:1], reason="why"))
    assert cancelled.results[0].outcome == task_service_pb2.CANCEL_OUTCOME_CANCELLED
    (task,) = (await watch.read()).tasks
    assert (task.task_id, task.status, task.runs[0].reason) == (
        ids[0],
        task_pb2.TASK_STATUS_CANCELLED,
        "why",
    )
    queues = queue_service_pb2_grpc.QueueServiceStub(channels[0])
    purged = await queues.PurgeQueue(queue_service_pb2.PurgeQueueRequest(name="mail"), timeout=60)
    assert purged.cancelled == 1
    (task,) = (await watch.read()).tasks
    assert (task.task_id, task.status) == (ids[1], task_pb2.TASK_STATUS_CANCELLED)
    assert await watch.code() is grpc.StatusCode.OK


async def test_who_may_find_a_task_that_waits_beside_the_database_is_told_where_it_is_not_found(
    start_broker: StartBroker, empty_database_url: str
) -> None:
    await install(empty_database_url)
    plain = start_broker("--name", "plain")
    start_broker("--name", "first", "--outbox-url", empty_database_url)
    async with grpc.aio.insecure_channel(plain.address) as channel:
        tasks, unknown = task_service_pb2_grpc.TaskServiceStub(channel), make_id()

        async def answer(call: Any) -> str:
            with pytest.raises(grpc.aio.AioRpcError) as refused:
                await call
            assert refused.value.code() is grpc.StatusCode.NOT_FOUND
            return refused.value.details() or ""

        async with asyncio.timeout(60):
            while "ask first, or give this broker the same --outbox-url" not in await answer(
                tasks.GetTask(task_service_pb2.GetTaskRequest(task_id=unknown), timeout=60)
            ):
                await asyncio.sleep(0.1)
        watch = tasks.WatchTasks(task_service_pb2.WatchTasksRequest(task_ids=[unknown]), timeout=60)
        assert "ask first" in await answer(watch.read())
    assert "other brokers take the outbox of another database" in plain.process.output


async def test_a_stream_of_submits_is_answered_frame_by_frame(channels: list[Any]) -> None:
    stub = task_service_pb2_grpc.TaskServiceStub(channels[0])

    async def frames() -> AsyncIterator[task_service_pb2.StreamSubmitRequest]:
        for sequence in range(50):
            tasks = [new_task() for _ in range(20)]
            yield task_service_pb2.StreamSubmitRequest(sequence=sequence, groups=grouped(tasks))

    answers = [answer async for answer in stub.StreamSubmit(frames(), timeout=30)]
    assert sorted(answer.sequence for answer in answers) == list(range(50))
    assert not any(answer.results for answer in answers)  # every task was stored now
    queues = queue_service_pb2_grpc.QueueServiceStub(channels[1])
    queue = (await queues.GetQueue(queue_service_pb2.GetQueueRequest(name="default"))).queue
    assert queue.queued == 1000


async def test_a_frame_names_those_of_its_tasks_that_were_not_stored_now(channels: list[Any]) -> None:
    stub = task_service_pb2_grpc.TaskServiceStub(channels[0])
    tasks = sorted((new_task() for _ in range(5)), key=lambda task: task.task_id)
    tasks[3].idempotency_key = tasks[4].idempotency_key = "frame"
    whole = task_service_pb2.StreamSubmitRequest(sequence=1, groups=grouped(tasks[:2]))
    again = task_service_pb2.StreamSubmitRequest(sequence=2, groups=grouped(tasks))
    again.groups[2].terms.priority = 11
    stream = stub.StreamSubmit(timeout=30)
    await stream.write(whole)
    assert (await stream.read()).results == []
    await stream.write(again)
    placed = {each.place: each.result for each in (await stream.read()).results}
    outcomes = {place: task_service_pb2.SubmitOutcome.Name(one.outcome)[15:] for place, one in placed.items()}
    assert outcomes == {0: "REPEATED", 1: "REPEATED", 2: "REJECTED", 4: "DEDUPLICATED"}
    assert [placed[place].task_id for place in (0, 1, 2, 4)] == [tasks[at].task_id for at in (0, 1, 2, 3)]
    assert placed[2].error.reason == "INVALID_FIELD"
    await stream.done_writing()


async def test_a_cancelled_task_is_retried_at_the_other_broker(channels: list[Any]) -> None:
    one, other = (task_service_pb2_grpc.TaskServiceStub(channel) for channel in channels)
    ids = await submit(one, new_task())
    await one.CancelTasks(task_service_pb2.CancelTasksRequest(task_ids=ids))
    retried = await other.RetryTasks(task_service_pb2.RetryTasksRequest(task_ids=ids))
    assert retried.results[0].outcome == task_service_pb2.RETRY_OUTCOME_REQUEUED
    task = (await one.GetTask(task_service_pb2.GetTaskRequest(task_id=ids[0]))).task
    assert (task.status, [run.status for run in task.runs]) == (
        task_pb2.TASK_STATUS_QUEUED,
        [task_pb2.RUN_STATUS_CANCELLED],
    )
    assert task.waiting_for == "no connected worker serves queue 'default'"


async def test_both_brokers_are_listed_by_either(channels: list[Any]) -> None:
    for channel in channels:
        admin = admin_service_pb2_grpc.AdminServiceStub(channel)
        brokers = (await admin.ListBrokers(admin_service_pb2.ListBrokersRequest())).brokers
        assert [broker.name for broker in brokers] == ["first", "second"]


async def test_an_oversized_frame_of_submits_is_refused(channels: list[Any]) -> None:
    stub = task_service_pb2_grpc.TaskServiceStub(channels[0])
    request = task_service_pb2.SubmitTasksRequest(tasks=[new_task()] * 1001)
    assert await reason_of(stub.SubmitTasks(request)) == "TOO_MANY_ITEMS"
