"""Tasks that must begin within a time, at a whole broker without a worker."""

from typing import Any

import grpc.aio

from hyrex.v1 import task_pb2, task_service_pb2, task_service_pb2_grpc
from tests.integration.service.seeding import make_id
from tests.support.processes import RunningBroker


def expiring(milliseconds: int, **fields: Any) -> task_pb2.NewTask:
    task = task_pb2.NewTask(task_id=make_id(), name="greet", queue="default", payload=b"{}", **fields)
    task.expires_in.FromMilliseconds(milliseconds)
    return task


async def submitted(tasks: Any, task: task_pb2.NewTask) -> task_service_pb2.SubmitResult:
    request = task_service_pb2.SubmitTasksRequest(tasks=[task])
    (result,) = (await tasks.SubmitTasks(request, timeout=60)).results
    return result  # type: ignore[no-any-return]


async def test_a_task_that_nobody_begins_in_time_ends_and_is_replayed_only(broker: RunningBroker) -> None:
    async with grpc.aio.insecure_channel(broker.address) as channel:
        tasks = task_service_pb2_grpc.TaskServiceStub(channel)
        late, early = expiring(1), expiring(3_600_000)
        for task in (late, early):
            assert (await submitted(tasks, task)).outcome == task_service_pb2.SUBMIT_OUTCOME_STORED
        request = task_service_pb2.WatchTasksRequest(task_ids=[late.task_id])
        async for frame in tasks.WatchTasks(request, timeout=60):
            found = frame.tasks[0]
            if found.status != task_pb2.TASK_STATUS_QUEUED:
                break
        assert found.status == task_pb2.TASK_STATUS_CANCELLED
        assert found.runs[0].cause == task_pb2.CANCEL_CAUSE_EXPIRED
        assert found.runs[0].reason == "it did not begin in time"
        one = await tasks.GetTask(task_service_pb2.GetTaskRequest(task_id=early.task_id), timeout=60)
        assert one.task.status == task_pb2.TASK_STATUS_QUEUED
        left = one.task.expires_at.ToDatetime() - one.task.submitted_at.ToDatetime()
        assert left.total_seconds() == 3600
        retried = await tasks.RetryTasks(
            task_service_pb2.RetryTasksRequest(task_ids=[late.task_id]), timeout=60
        )
        assert retried.results[0].outcome == task_service_pb2.RETRY_OUTCOME_EXPIRED
        new_id = make_id()
        replay = task_service_pb2.ReplayTaskRequest(task_id=late.task_id, new_task_id=new_id)
        assert (await tasks.ReplayTask(replay, timeout=60)).result.task_id == new_id
        again = await tasks.GetTask(task_service_pb2.GetTaskRequest(task_id=new_id), timeout=60)
        assert again.task.status == task_pb2.TASK_STATUS_QUEUED
        assert not again.task.HasField("expires_at")
