"""TaskService over a real channel: reads, lists, watches, cancels, pipelined submits, refusals."""

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from typing import Any

import grpc.aio
import pytest
from google.protobuf.timestamp_pb2 import Timestamp

from hyrex.v1 import task_pb2, task_service_pb2
from hyrex_broker.domain.model import CancelOutcome, TaskId
from hyrex_broker.domain.views import TaskPage
from hyrex_broker.service.tasks import FRAMES_UNDER_WAY
from hyrex_broker.storage.listing import TaskLists
from tests.integration.service.seeding import Seed, make_id
from tests.integration.service.stubs import Stubs, error_info, ids_of, reason_of, storage_away

QUEUED, COMPLETED, FAILED = (
    task_pb2.TASK_STATUS_QUEUED,
    task_pb2.TASK_STATUS_COMPLETED,
    task_pb2.TASK_STATUS_FAILED,
)


def get(task_id: str) -> task_service_pb2.GetTaskRequest:
    return task_service_pb2.GetTaskRequest(task_id=task_id)


async def test_get_task_tells_all_of_a_task(stubs: Stubs, seed: Seed) -> None:
    session = await seed.session(worker="ada")
    root = make_id()
    task_id = await seed.task(payload=b"[1]", root_id=root, headers='{"h": "1"}', labels='{"l": "2"}')
    await seed.run(task_id, 3, 0, final=False, error="ValueError", session_id=session)
    await seed.run(task_id, 2, 1, result=b"{}", session_id=session)
    task = (await stubs.tasks.GetTask(get(task_id.upper()))).task
    assert (task.task_id, task.status, task.payload, task.root_id) == (task_id, COMPLETED, b"[1]", root)
    assert (dict(task.headers), dict(task.labels), task.priority) == ({"h": "1"}, {"l": "2"}, 5)
    assert not task.HasField("timeout")
    failed, completed = task.runs
    assert (failed.error.type, failed.error.traceback, failed.worker) == ("ValueError", "ValueError", "ada")
    assert (completed.result, completed.HasField("error")) == (b"{}", False)


async def test_get_task_tells_the_trace_that_it_was_sent_in_and_lists_do_not(
    stubs: Stubs, seed: Seed
) -> None:
    traced, untraced = await seed.task(), await seed.task()
    context = b"\0" + bytes(range(1, 17)) + bytes(range(17, 25)) + b"\1"
    await seed.execute("update task set trace_context = $2 where id = $1", traced, context)
    task = (await stubs.tasks.GetTask(get(traced))).task
    assert task.traceparent == "00-0102030405060708090a0b0c0d0e0f10-1112131415161718-01"
    assert (await stubs.tasks.GetTask(get(untraced))).task.traceparent == ""
    listed = await stubs.tasks.ListTasks(task_service_pb2.ListTasksRequest())
    assert [each.traceparent for each in listed.tasks] == ["", ""]


async def test_a_queued_task_names_what_it_waits_for(stubs: Stubs, seed: Seed) -> None:
    task_id = await seed.ready(await seed.task(queue="nowhere"))
    task = (await stubs.tasks.GetTask(get(task_id))).task
    assert (task.status, task.root_id) == (QUEUED, task_id)
    assert task.waiting_for == "no connected worker serves queue 'nowhere'"


async def test_many_large_results_still_fit_into_one_answer(stubs: Stubs, seed: Seed) -> None:
    task_id = await seed.task()
    for number in range(5):
        await seed.run(task_id, 2, number, result=b"x" * 4_000_000)
    task = (await stubs.tasks.GetTask(get(task_id))).task
    assert [bool(run.result) for run in task.runs] == [False, False, False, True, True]


async def test_get_refuses_unknown_and_malformed_ids(stubs: Stubs) -> None:
    assert await reason_of(stubs.tasks.GetTask(get(make_id()))) == "TASK_NOT_FOUND"
    for text in ("", "x", "0199" * 9, "{" + make_id()[:-2] + "}", make_id() + "0"):
        assert await reason_of(stubs.tasks.GetTask(get(text))) == "INVALID_FIELD"


async def test_a_list_goes_on_with_its_token(stubs: Stubs, seed: Seed) -> None:
    ids = [await seed.ready(await seed.task(queue="mail", payload=b"1")) for _ in range(5)]
    await seed.ready(await seed.task())
    request = task_service_pb2.ListTasksRequest(page_size=2, queue="mail")
    found: list[str] = []
    while True:
        page = await stubs.tasks.ListTasks(request)
        found += ids_of(page.tasks)
        assert not any(task.payload for task in page.tasks)
        if not page.next_page_token:
            break
        request.page_token = page.next_page_token
    assert found == sorted(ids, reverse=True)


async def test_a_token_is_good_for_its_own_filters_only(stubs: Stubs, seed: Seed) -> None:
    for _ in range(2):
        await seed.ready(await seed.task())
    token = (await stubs.tasks.ListTasks(task_service_pb2.ListTasksRequest(page_size=1))).next_page_token
    others = [
        task_service_pb2.ListTasksRequest(page_token=token, queue="default"),
        task_service_pb2.ListTasksRequest(page_token=token, statuses=[QUEUED]),
        task_service_pb2.ListTasksRequest(page_token=token, created_after=Timestamp(seconds=1)),
        task_service_pb2.ListTasksRequest(page_token=token[:-4]),
        task_service_pb2.ListTasksRequest(page_token="made up"),
    ]
    for request in others:
        assert await reason_of(stubs.tasks.ListTasks(request)) == "PAGE_TOKEN_INVALID"


@pytest.mark.parametrize(
    "fields",
    [
        {"page_size": -1},
        {"page_size": 1001},
        {"queue": "x" * 256},
        {"name": "a\0b"},
        {"statuses": [0]},
        {"statuses": [99]},
        {"parent_id": "x"},
        {"root_id": "x"},
        {"created_after": Timestamp(seconds=253402300800)},
    ],
)
async def test_a_list_refuses_bad_filters(stubs: Stubs, fields: dict[str, Any]) -> None:
    request = task_service_pb2.ListTasksRequest(**fields)
    assert await reason_of(stubs.tasks.ListTasks(request)) == "INVALID_FIELD"


async def test_cancel_and_retry_answer_in_the_order_asked(stubs: Stubs) -> None:
    ids = [make_id() for _ in range(3)]
    cancelled = await stubs.tasks.CancelTasks(
        task_service_pb2.CancelTasksRequest(task_ids=ids, reason="enough")
    )
    assert [(result.task_id, result.outcome) for result in cancelled.results] == [(each, 1) for each in ids]
    assert stubs.recorded.cancels == [(ids, "enough")]
    retried = await stubs.tasks.RetryTasks(task_service_pb2.RetryTasksRequest(task_ids=ids))
    assert [(result.task_id, result.outcome) for result in retried.results] == [(each, 1) for each in ids]


async def test_too_many_ids_and_bad_reasons_are_refused(stubs: Stubs) -> None:
    many = [make_id()] * 1001
    tasks, messages = stubs.tasks, task_service_pb2
    assert await reason_of(tasks.CancelTasks(messages.CancelTasksRequest(task_ids=many))) == "TOO_MANY_ITEMS"
    assert await reason_of(tasks.RetryTasks(messages.RetryTasksRequest(task_ids=many))) == "TOO_MANY_ITEMS"
    watch = tasks.WatchTasks(messages.WatchTasksRequest(task_ids=many))
    assert await reason_of(watch.read()) == "TOO_MANY_ITEMS"
    for reason in ("x" * 1001, "a\0b"):
        request = messages.CancelTasksRequest(task_ids=[make_id()], reason=reason)
        assert await reason_of(tasks.CancelTasks(request)) == "INVALID_FIELD"


async def test_a_watch_tells_the_end_and_closes(stubs: Stubs, seed: Seed) -> None:
    first, second = await seed.ready(await seed.task()), await seed.run(await seed.task(), result=b"1")
    watch = stubs.tasks.WatchTasks(task_service_pb2.WatchTasksRequest(task_ids=[first, second]), timeout=60)
    told = {task.task_id: task for task in (await watch.read()).tasks}
    assert (told[first].status, told[second].status) == (QUEUED, COMPLETED)
    await finish(seed, first, b"x" * 100_000)
    stubs.touch(first)
    (task,) = (await watch.read()).tasks
    assert (task.status, len(task.runs[0].result), task.payload) == (COMPLETED, 100_000, b"")
    assert await watch.code() is grpc.StatusCode.OK


async def finish(seed: Seed, task_id: TaskId, result: bytes) -> None:
    await seed.run(task_id, result=result)
    await seed.execute("delete from ready where task_id = $1", task_id)


async def test_an_end_that_nobody_tells_is_found_by_the_slow_round(stubs: Stubs, seed: Seed) -> None:
    task_id = await seed.ready(await seed.task())
    watch = stubs.tasks.WatchTasks(task_service_pb2.WatchTasksRequest(task_ids=[task_id]), timeout=60)
    await watch.read()
    await finish(seed, task_id, b"1")
    assert (await watch.read()).tasks[0].status == COMPLETED


async def test_a_watch_of_an_unknown_task_is_not_found(stubs: Stubs) -> None:
    watch = stubs.tasks.WatchTasks(task_service_pb2.WatchTasksRequest(task_ids=[make_id()]), timeout=60)
    assert await reason_of(watch.read()) == "TASK_NOT_FOUND"


def frame(sequence: int) -> task_service_pb2.StreamSubmitRequest:
    return task_service_pb2.StreamSubmitRequest(
        sequence=sequence,
        groups=[task_service_pb2.TaskGroup(terms=task_pb2.NewTask(name=f"task-{sequence}"), payloads=[b""])],
    )


async def test_frames_are_answered_as_their_submits_resolve(stubs: Stubs) -> None:
    stubs.recorded.gates = {"task-1": asyncio.Event()}
    stream = stubs.tasks.StreamSubmit(timeout=60)
    for sequence in (1, 2, 3):
        await stream.write(frame(sequence))
    answered = [(await stream.read()).sequence for _ in range(2)]
    stubs.recorded.gates["task-1"].set()
    last = await stream.read()
    assert (sorted(answered), last.sequence, ids_of(each.result for each in last.results)) == (
        [2, 3],
        1,
        ["task-1"],
    )
    await stream.done_writing()
    assert await stream.code() is grpc.StatusCode.OK


async def test_frames_beyond_the_window_wait_to_be_read(stubs: Stubs) -> None:
    count = FRAMES_UNDER_WAY + 5
    stubs.recorded.gates = {f"task-{sequence}": asyncio.Event() for sequence in range(count)}

    async def frames() -> AsyncIterator[task_service_pb2.StreamSubmitRequest]:
        for sequence in range(count):
            yield frame(sequence)

    stream = stubs.tasks.StreamSubmit(frames(), timeout=60)
    await stubs.recorded.submitted(FRAMES_UNDER_WAY)
    # Any later call is answered by the same loop: had it read on, the ninth would be there.
    await stubs.tasks.SubmitTasks(task_service_pb2.SubmitTasksRequest())
    assert len(stubs.recorded.submits) == FRAMES_UNDER_WAY + 1
    for gate in stubs.recorded.gates.values():
        gate.set()
    answers = [answer.sequence async for answer in stream]
    assert sorted(answers) == list(range(count))


async def test_a_refused_frame_ends_the_stream_with_its_status(stubs: Stubs) -> None:
    stubs.recorded.refusal = storage_away()
    stream = stubs.tasks.StreamSubmit(timeout=60)
    await stream.write(frame(1))
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await stream.read()
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
    assert error_info(caught.value).reason == "STORAGE_UNAVAILABLE"


async def test_a_broker_that_leaves_answers_what_it_has_read_and_ends_the_stream(stubs: Stubs) -> None:
    stubs.recorded.gates = {"task-1": asyncio.Event()}
    stream = stubs.tasks.StreamSubmit(timeout=60)
    await stream.write(frame(1))
    await stubs.recorded.submitted(1)
    stubs.recorded.drained.set()
    stubs.recorded.gates["task-1"].set()
    answer = await stream.read()
    assert (answer.sequence, ids_of(each.result for each in answer.results)) == (1, ["task-1"])
    assert await stream.code() is grpc.StatusCode.OK


async def test_headers_are_left_out_of_lists(stubs: Stubs, seed: Seed) -> None:
    await seed.ready(await seed.task(headers=json.dumps({"h": "1"}), labels=json.dumps({"l": "2"})))
    (task,) = (await stubs.tasks.ListTasks(task_service_pb2.ListTasksRequest())).tasks
    assert (dict(task.headers), dict(task.labels)) == ({}, {"l": "2"})


async def test_lists_and_bulk_cancels_leave_connections_to_others(
    stubs: Stubs, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A page may take seconds, and so may a thousand cancels: one of them at a time, others pass."""
    may_end, lists, cancels = asyncio.Event(), [], []

    async def page(*args: object, **_: object) -> TaskPage:
        lists.append(args)
        await may_end.wait()
        return TaskPage([], None)

    async def cancel(ids: Sequence[TaskId], reason: str) -> list[CancelOutcome]:
        cancels.append(len(ids))
        if len(ids) > 1:
            await may_end.wait()
        return [CancelOutcome.CANCELLED for _ in ids]

    monkeypatch.setattr(TaskLists, "page", page)
    monkeypatch.setattr(stubs.recorded, "cancel", cancel)
    many = task_service_pb2.CancelTasksRequest(task_ids=[make_id() for _ in range(1000)])
    asked = [stubs.tasks.ListTasks(task_service_pb2.ListTasksRequest()) for _ in range(6)]
    asked += [stubs.tasks.CancelTasks(many) for _ in range(6)]
    async with asyncio.timeout(60):
        while len(lists) < 2 or len(cancels) < 2:
            await asyncio.sleep(0.01)
    assert await reason_of(stubs.tasks.GetTask(get(make_id()))) == "TASK_NOT_FOUND"
    assert (len(lists), cancels) == (2, [1000, 1000])
    may_end.set()
    await asyncio.gather(*asked)
    assert (len(lists), len(cancels)) == (6, 6)
