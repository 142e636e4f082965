"""Every call of a client in another language, through a gateway to two cells."""

import asyncio
from collections.abc import AsyncIterator

import grpc
import grpc.aio
import psutil
import pytest
from google.protobuf.timestamp_pb2 import Timestamp

from hyrex.v1 import (
    admin_service_pb2,
    queue_service_pb2,
    schedule_pb2,
    schedule_service_pb2,
    task_pb2,
    worker_service_pb2,
)
from hyrex.v1 import task_service_pb2 as pb
from tests.integration.gateway.conftest import REST, VIDEO, Cluster, Stubs, stubs_on
from tests.integration.gateway.sends import REJECTED, STORED, new_task, stored
from tests.integration.service.seeding import make_id
from tests.integration.service.stubs import error_info, reason_of
from tests.support.groups import grouped
from tests.support.processes import Processes
from tests.support.tokens import bearer


def tasks_of_both() -> list[task_pb2.NewTask]:
    return [new_task(VIDEO), new_task(REST), new_task(f"{VIDEO}-2"), new_task(REST)]


async def ids_in(address: str) -> set[str]:
    """What is stored in one cell, asked of its broker."""
    async with grpc.aio.insecure_channel(address) as channel:
        listed = await stubs_on(channel).tasks.ListTasks(pb.ListTasksRequest(page_size=1000))
        return {each.task_id for each in listed.tasks}


async def test_tasks_of_a_request_go_to_the_cells_of_their_queues(cluster: Cluster, stubs: Stubs) -> None:
    tasks = tasks_of_both()
    bad = new_task(VIDEO, priority=99)
    answer = await stubs.tasks.SubmitTasks(pb.SubmitTasksRequest(tasks=[*tasks, bad]))
    assert [each.task_id for each in answer.results] == [each.task_id for each in [*tasks, bad]]
    assert [each.outcome for each in answer.results] == [STORED] * 4 + [REJECTED]
    assert answer.results[4].error.reason == "INVALID_FIELD"
    video, rest = await ids_in(cluster.video.address), await ids_in(cluster.rest.address)
    assert {tasks[0].task_id, tasks[2].task_id} <= video
    assert {tasks[1].task_id, tasks[3].task_id} <= rest
    assert not video & rest


async def test_frames_are_split_and_answered_by_place(cluster: Cluster, stubs: Stubs) -> None:
    tasks = tasks_of_both()
    bad = new_task(VIDEO, priority=99)

    async def frames() -> AsyncIterator[pb.StreamSubmitRequest]:
        yield pb.StreamSubmitRequest(sequence=7, groups=grouped([*tasks, bad]))
        yield pb.StreamSubmitRequest(sequence=9, groups=grouped([tasks[1]]))

    answers = {each.sequence: each async for each in stubs.tasks.StreamSubmit(frames())}
    assert [(each.place, each.result.error.reason) for each in answers[7].results] == [(4, "INVALID_FIELD")]
    assert len(answers) == 2
    video, rest = await ids_in(cluster.video.address), await ids_in(cluster.rest.address)
    assert [each.task_id in video for each in tasks] == [True, False, True, False]
    assert [each.task_id in rest for each in tasks] == [False, True, False, True]


async def test_a_request_has_no_more_tasks_than_a_broker_takes(stubs: Stubs) -> None:
    tasks = [new_task((VIDEO, REST)[at % 2]) for at in range(1001)]
    assert await reason_of(stubs.tasks.SubmitTasks(pb.SubmitTasksRequest(tasks=tasks))) == "TOO_MANY_ITEMS"
    assert (await stubs.tasks.SubmitTasks(pb.SubmitTasksRequest())).results == []

    async def frames() -> AsyncIterator[pb.StreamSubmitRequest]:
        yield pb.StreamSubmitRequest(sequence=1, groups=grouped(tasks[:999]))
        yield pb.StreamSubmitRequest(sequence=2, groups=[grouped(tasks[:1])[0]] * 500 + grouped(tasks[:501]))

    with pytest.raises(grpc.aio.AioRpcError) as caught:
        async for _ in stubs.tasks.StreamSubmit(frames()):
            pass
    assert error_info(caught.value).reason == "TOO_MANY_ITEMS"


async def test_a_task_is_found_in_whichever_cell_it_is(stubs: Stubs) -> None:
    for task_id in await stored(stubs, *tasks_of_both()):
        assert (await stubs.tasks.GetTask(pb.GetTaskRequest(task_id=task_id))).task.task_id == task_id
    assert await reason_of(stubs.tasks.GetTask(pb.GetTaskRequest(task_id=make_id()))) == "TASK_NOT_FOUND"
    assert await reason_of(stubs.tasks.GetTask(pb.GetTaskRequest(task_id="x"))) == "INVALID_FIELD"


async def test_tasks_are_cancelled_retried_and_dismissed_where_they_are(stubs: Stubs) -> None:
    ids = [*await stored(stubs, *tasks_of_both()), make_id()]
    cancelled = (await stubs.tasks.CancelTasks(pb.CancelTasksRequest(task_ids=ids))).results
    assert [each.outcome for each in cancelled] == [pb.CANCEL_OUTCOME_CANCELLED] * 4 + [
        pb.CANCEL_OUTCOME_NOT_FOUND
    ]
    assert [each.task_id for each in cancelled] == ids
    dismissed = (await stubs.tasks.DismissTasks(pb.DismissTasksRequest(task_ids=ids))).results
    assert [each.outcome for each in dismissed] == [pb.DISMISS_OUTCOME_NOT_DEAD] * 4 + [
        pb.DISMISS_OUTCOME_NOT_FOUND
    ]
    retried = (await stubs.tasks.RetryTasks(pb.RetryTasksRequest(task_ids=ids))).results
    assert [each.outcome for each in retried] == [pb.RETRY_OUTCOME_REQUEUED] * 4 + [
        pb.RETRY_OUTCOME_NOT_FOUND
    ]
    assert (await stubs.tasks.CancelTasks(pb.CancelTasksRequest())).results == []


async def test_a_replay_is_stored_in_the_cell_of_the_earlier_task(cluster: Cluster, stubs: Stubs) -> None:
    for earlier in await stored(stubs, new_task(VIDEO), new_task(REST)):
        request = pb.ReplayTaskRequest(task_id=earlier, new_task_id=make_id())
        answer = await stubs.tasks.ReplayTask(request)
        assert (answer.result.task_id, answer.result.outcome) == (request.new_task_id, STORED)
    assert request.new_task_id in await ids_in(cluster.rest.address)
    unknown = pb.ReplayTaskRequest(task_id=make_id(), new_task_id=make_id())
    assert await reason_of(stubs.tasks.ReplayTask(unknown)) == "TASK_NOT_FOUND"


async def test_tasks_of_both_cells_are_watched_until_all_have_ended(stubs: Stubs) -> None:
    ids = await stored(stubs, *tasks_of_both())
    watch = stubs.tasks.WatchTasks(pb.WatchTasksRequest(task_ids=ids))
    states: dict[str, int] = {}
    async for frame in watch:
        states |= {each.task_id: each.status for each in frame.tasks}
        if states == dict.fromkeys(ids, task_pb2.TASK_STATUS_QUEUED):
            await stubs.tasks.CancelTasks(pb.CancelTasksRequest(task_ids=ids))
    assert states == dict.fromkeys(ids, task_pb2.TASK_STATUS_CANCELLED)


async def test_a_watch_of_a_task_that_no_cell_has_ends_with_not_found(stubs: Stubs) -> None:
    missing = make_id()
    ids = [*await stored(stubs, new_task(VIDEO), new_task(REST)), missing]
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        async for _ in stubs.tasks.WatchTasks(pb.WatchTasksRequest(task_ids=ids)):
            pass
    assert caught.value.code() is grpc.StatusCode.NOT_FOUND
    assert error_info(caught.value).metadata["task_id"] == missing


async def test_queues_and_schedules_are_asked_for_in_their_cell(cluster: Cluster, stubs: Stubs) -> None:
    await stubs.queues.UpdateQueue(queue_service_pb2.UpdateQueueRequest(name=f"{VIDEO}-q", paused=True))
    assert (await stubs.queues.GetQueue(queue_service_pb2.GetQueueRequest(name=f"{VIDEO}-q"))).queue.paused
    definition = schedule_pb2.ScheduleDefinition(name="nightly", cron="0 3 * * *", task=new_task(VIDEO))
    definition.task.ClearField("task_id")
    await stubs.schedules.PutSchedule(schedule_service_pb2.PutScheduleRequest(definition=definition))
    await stubs.schedules.PauseSchedule(schedule_service_pb2.PauseScheduleRequest(name="nightly"))
    found = await stubs.schedules.GetSchedule(schedule_service_pb2.GetScheduleRequest(name="nightly"))
    assert found.schedule.paused
    triggered = await stubs.schedules.TriggerSchedule(
        schedule_service_pb2.TriggerScheduleRequest(name="nightly")
    )
    assert triggered.task_id in await ids_in(cluster.video.address)
    since = Timestamp()
    since.GetCurrentTime()
    since.seconds -= 60
    backfill = schedule_service_pb2.BackfillScheduleRequest(name="nightly", dry_run=True)
    getattr(backfill, "from").CopyFrom(since)
    await stubs.schedules.BackfillSchedule(backfill)
    await stubs.schedules.DeleteSchedule(schedule_service_pb2.DeleteScheduleRequest(name="nightly"))
    request = schedule_service_pb2.GetScheduleRequest(name="nightly")
    assert await reason_of(stubs.schedules.GetSchedule(request)) == "PEER_NOT_FOUND"


async def test_a_schedule_that_two_cells_have_is_left_alone(cluster: Cluster, stubs: Stubs) -> None:
    """While its queue is moved, it is declared in both."""
    definition = schedule_pb2.ScheduleDefinition(name="both", cron="0 3 * * *", task=new_task(VIDEO))
    definition.task.ClearField("task_id")
    put = schedule_service_pb2.PutScheduleRequest(definition=definition)
    for address in (cluster.video.address, cluster.rest.address):
        async with grpc.aio.insecure_channel(address) as channel:
            await stubs_on(channel).schedules.PutSchedule(put)
    call = stubs.schedules.DeleteSchedule(schedule_service_pb2.DeleteScheduleRequest(name="both"))
    assert await reason_of(call) == "SPANS_CELLS"
    found = await stubs.schedules.GetSchedule(schedule_service_pb2.GetScheduleRequest(name="both")).code()
    assert found is grpc.StatusCode.FAILED_PRECONDITION


async def test_what_spans_cells_is_refused_in_words(stubs: Stubs) -> None:
    calls = [
        stubs.tasks.ListTasks(pb.ListTasksRequest()),
        stubs.tasks.CountTasks(pb.CountTasksRequest()),
        stubs.queues.ListQueues(queue_service_pb2.ListQueuesRequest()),
        stubs.schedules.ListSchedules(schedule_service_pb2.ListSchedulesRequest()),
        stubs.admin.ListWorkers(admin_service_pb2.ListWorkersRequest()),
        stubs.admin.GetStats(admin_service_pb2.GetStatsRequest()),
        stubs.workers.EndSession(worker_service_pb2.EndSessionRequest()),
    ]
    assert await asyncio.gather(*map(reason_of, calls)) == ["SPANS_CELLS"] * len(calls)
    assert (await stubs.admin.GetCaller(admin_service_pb2.GetCallerRequest())).name == "anyone"


async def test_a_cell_without_tokens_lets_nobody_in_where_they_are_asked_for(
    cluster: Cluster, processes: Processes
) -> None:
    """Whatever they say: any token would do."""
    gateway = processes.gateway(cluster.routes, "--require-token")
    async with grpc.aio.insecure_channel(gateway.address) as channel:
        request = pb.GetTaskRequest(task_id=make_id())
        call = stubs_on(channel).tasks.GetTask(request, metadata=bearer("any"))
        assert await reason_of(call) == "TOKEN_INVALID"


async def test_a_gateway_that_stops_waits_for_no_watch(cluster: Cluster, processes: Processes) -> None:
    gateway = processes.gateway(cluster.routes, "--drain-timeout", "600")
    async with grpc.aio.insecure_channel(gateway.address) as channel, asyncio.timeout(60):
        ids = await stored(stubs_on(channel), new_task(REST))
        watch = stubs_on(channel).tasks.WatchTasks(pb.WatchTasksRequest(task_ids=ids))
        assert [each.task_id for each in (await watch.read()).tasks] == ids
        psutil.Process(gateway.process.pid).terminate()
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await watch.read()
        assert error_info(caught.value).reason == "DRAINING"
