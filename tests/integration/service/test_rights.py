"""What a token may not see is not there, and what it may not change stays: over a real channel."""

import asyncio

import grpc.aio
import pytest

from hyrex.v1 import admin_service_pb2 as admin_wire
from hyrex.v1 import queue_service_pb2, task_pb2, task_service_pb2
from hyrex_broker.service import cluster
from tests.integration.service.seeding import Seed, make_id
from tests.integration.service.stubs import ROOT, Stubs, ids_of, outcome_of, reason_of
from tests.support.tokens import bearer, made


async def test_tasks_of_other_queues_are_not_there(guarded: Stubs, seed: Seed) -> None:
    own = await made(guarded.admin, ROOT, "own", "read submit", "own*")
    mine, other = await seed.task(queue="own-1"), await seed.task(queue="another")
    await seed.ready(mine)
    await seed.ready(other)
    get = task_service_pb2.GetTaskRequest
    assert (await guarded.tasks.GetTask(get(task_id=mine), metadata=own)).task.task_id == mine
    hidden = await reason_of(guarded.tasks.GetTask(get(task_id=other), metadata=own))
    absent = await reason_of(guarded.tasks.GetTask(get(task_id=make_id()), metadata=own))
    assert hidden == absent == "TASK_NOT_FOUND"
    for filters in ({}, {"name": "greet"}, {"statuses": [task_pb2.TASK_STATUS_QUEUED]}, {"queue": "another"}):
        request = task_service_pb2.ListTasksRequest(**filters)
        listed = await guarded.tasks.ListTasks(request, metadata=own)
        assert ids_of(listed.tasks) == ([] if "queue" in filters else [mine])


async def test_a_watch_of_anothers_task_ends_as_one_of_an_unknown_task(guarded: Stubs, seed: Seed) -> None:
    own = await made(guarded.admin, ROOT, "own", "read", "own")
    for task_id in (await seed.task(queue="another"), make_id()):
        stream = guarded.tasks.WatchTasks(
            task_service_pb2.WatchTasksRequest(task_ids=[task_id]), metadata=own, timeout=60
        )
        assert await reason_of(stream.read()) == "TASK_NOT_FOUND"


async def test_a_watch_of_several_does_not_tell_which_of_them_another_queue_has(
    guarded: Stubs, seed: Seed
) -> None:
    """The first one that is not to be seen is named, be it anothers or unknown; and no state comes before."""
    own = await made(guarded.admin, ROOT, "own", "read", "own")
    mine, other, absent = await seed.task(queue="own"), await seed.task(queue="another"), make_id()
    for ids in ([mine, other, absent], [mine, absent, other]):
        request = task_service_pb2.WatchTasksRequest(task_ids=ids)
        with pytest.raises(grpc.aio.AioRpcError, match=ids[1]):
            await guarded.tasks.WatchTasks(request, metadata=own, timeout=60).read()


async def test_only_tasks_of_own_queues_are_cancelled_and_retried(guarded: Stubs, seed: Seed) -> None:
    own = await made(guarded.admin, ROOT, "own", "submit", "own")
    mine, other, absent = await seed.task(queue="own"), await seed.task(queue="another"), make_id()
    ids = [other, mine, absent]
    answer = await guarded.tasks.CancelTasks(task_service_pb2.CancelTasksRequest(task_ids=ids), metadata=own)
    gone = task_service_pb2.CANCEL_OUTCOME_NOT_FOUND
    assert [result.outcome for result in answer.results] == [
        gone,
        task_service_pb2.CANCEL_OUTCOME_CANCELLED,
        gone,
    ]
    assert guarded.recorded.cancels == [([mine], "")]
    dismissed = await guarded.tasks.DismissTasks(
        task_service_pb2.DismissTasksRequest(task_ids=ids), metadata=own
    )
    unknown = task_service_pb2.DISMISS_OUTCOME_NOT_FOUND
    assert [result.outcome == unknown for result in dismissed.results] == [True, False, True]
    assert guarded.recorded.dismissed == [([mine], "own")]
    await guarded.audit.flush()
    noted = await seed.rows("select who, details from audit where action = 'task.dismiss'")
    assert [(row["who"], mine in row["details"], other in row["details"]) for row in noted] == [
        ("own", True, False)
    ]
    retried = await guarded.tasks.RetryTasks(task_service_pb2.RetryTasksRequest(task_ids=ids), metadata=own)
    gone_too = task_service_pb2.RETRY_OUTCOME_NOT_FOUND
    assert [result.outcome == gone_too for result in retried.results] == [True, False, True]


async def test_without_the_scope_payload_a_task_is_shown_without_what_it_carries(
    guarded: Stubs, seed: Seed
) -> None:
    task_id = await seed.task(payload=b'"private"', headers='{"who": "private"}', labels='{"team": "a"}')
    await seed.run(task_id, 3, error="ValueError: private")
    await seed.execute("update task_run set error_type = 'ValueError'")
    request = task_service_pb2.GetTaskRequest(task_id=task_id)
    for scopes, hidden in (("read", True), ("read payload", False)):
        own = await made(guarded.admin, ROOT, scopes.replace(" ", "-"), scopes)
        task = (await guarded.tasks.GetTask(request, metadata=own)).task
        listed = await guarded.tasks.ListTasks(task_service_pb2.ListTasksRequest(), metadata=own)
        watched = guarded.tasks.WatchTasks(
            task_service_pb2.WatchTasksRequest(task_ids=[task_id]), metadata=own, timeout=60
        )
        seen = [task, *listed.tasks, *(await watched.read()).tasks]
        assert [each.hidden for each in seen] == [hidden] * 3
        assert ["private" in str(each) for each in seen] == [not hidden] * 3
        assert seen[0].runs[0].error.type == "ValueError"
        assert dict(seen[0].labels) == {"team": "a"}


async def test_queues_of_others_are_not_there_and_are_not_made(guarded: Stubs, seed: Seed) -> None:
    own = await made(guarded.admin, ROOT, "own", "read admin", "own-*")
    names = ["another", "own-1", "own-2", "own-3", "z"]
    for name in names:
        await seed.lane(queue=name)
    listed, token = [], ""
    while True:
        page = await guarded.queues.ListQueues(
            queue_service_pb2.ListQueuesRequest(page_size=2, page_token=token), metadata=own
        )
        listed += [queue.name for queue in page.queues]
        token = page.next_page_token
        if not token:
            break
    assert listed == ["own-1", "own-2", "own-3"]
    wire = queue_service_pb2
    for call in (
        guarded.queues.GetQueue(wire.GetQueueRequest(name="another"), metadata=own),
        guarded.queues.UpdateQueue(wire.UpdateQueueRequest(name="another", paused=True), metadata=own),
        guarded.queues.UpdateQueue(wire.UpdateQueueRequest(name="new", paused=True), metadata=own),
        guarded.queues.PurgeQueue(wire.PurgeQueueRequest(name="another"), metadata=own),
        guarded.queues.DeleteQueue(wire.DeleteQueueRequest(name="another"), metadata=own),
    ):
        assert await reason_of(call) == "QUEUE_NOT_FOUND"
    await guarded.queues.UpdateQueue(wire.UpdateQueueRequest(name="own-1", paused=True), metadata=own)
    assert await seed.rows("select name from queue where paused or name = 'new'") == [("own-1",)]


async def test_workers_of_others_are_not_there_and_are_not_drained(guarded: Stubs, seed: Seed) -> None:
    own = await made(guarded.admin, ROOT, "own", "read admin", "own*")
    for patterns in (["own", "own-b"], ["own", "another"], ["*"]):
        await seed.session(patterns=tuple(patterns))
    listed = await guarded.admin.ListWorkers(admin_wire.ListWorkersRequest(), metadata=own)
    assert [list(worker.queue_patterns) for worker in listed.workers] == [["own", "own-b"]]
    everyone = await guarded.admin.ListWorkers(admin_wire.ListWorkersRequest(), metadata=bearer(ROOT))
    for worker in everyone.workers:
        drain = guarded.admin.DrainWorker(
            admin_wire.DrainWorkerRequest(session_id=worker.session_id), metadata=own
        )
        seen = worker.session_id == listed.workers[0].session_id
        assert await outcome_of(drain) == ("" if seen else "PEER_NOT_FOUND")
    assert [str(each) for each in guarded.recorded.drained_sessions] == [listed.workers[0].session_id]
    stop = guarded.admin.DrainBroker(admin_wire.DrainBrokerRequest(), metadata=own)
    assert await reason_of(stop) == "RIGHT_MISSING"
    assert not guarded.recorded.drained.is_set()


async def test_a_cluster_is_shown_as_far_as_its_queues_may_be_seen(guarded: Stubs, seed: Seed) -> None:
    own = await made(guarded.admin, ROOT, "own", "read", "own*")
    mine = await seed.ready(await seed.task(queue="own-1", name="send"))
    other = await seed.ready(await seed.task(queue="another", name="send"))
    session = await seed.session(patterns=("own-1",), tasks=("send",))
    await seed.session(patterns=("*",), tasks=("send",))
    await seed.lease(await seed.task(queue="another", name="send"), session)
    call = guarded.admin.WatchCluster(admin_wire.WatchClusterRequest(), metadata=own)
    frame = await call.read()
    call.cancel()
    assert [each.queue.name for each in frame.queues] == ["own-1"]
    assert [list(each.session.queue_patterns) for each in frame.workers] == [["own-1"]]
    assert not frame.workers[0].runs
    stats = admin_wire.GetStatsRequest
    assert await outcome_of(guarded.admin.GetStats(stats(queue="own-1"), metadata=own)) == ""
    assert await outcome_of(guarded.admin.GetStats(stats(queue="another"), metadata=own)) == "QUEUE_NOT_FOUND"
    assert await outcome_of(guarded.admin.GetStats(stats(), metadata=own)) == "RIGHT_MISSING"
    why = admin_wire.WhyRequest
    await seed.execute(
        "insert into concurrency_limit (namespace, scope, name, maximum, source)"
        " values (0, 'task', 'send', 1, 'operator')"
    )
    told = await guarded.admin.Why(why(task_id=mine), metadata=own)
    assert ("limit" in told.sentence, len(told.holders)) == (True, 0)
    assert len((await guarded.admin.Why(why(task_id=mine), metadata=bearer(ROOT))).holders) == 1
    assert await outcome_of(guarded.admin.Why(why(task_id=other), metadata=own)) == "TASK_NOT_FOUND"


async def test_a_part_of_the_cluster_is_shown_although_the_whole_has_no_room(
    guarded: Stubs, seed: Seed, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cluster, "MOST_QUEUES", 2)
    monkeypatch.setattr(cluster, "MOST_WORKERS", 1)
    own = await made(guarded.admin, ROOT, "own", "read", "own*")
    session = await seed.session(patterns=("own-z",))
    for _ in range(3):
        await seed.session(patterns=("another",))
    for queue in ("a", "b", "c", "own-z"):
        await seed.lease(await seed.task(queue=queue), session)
    call = guarded.admin.WatchCluster(admin_wire.WatchClusterRequest(), metadata=own)
    frame = await call.read()
    call.cancel()
    assert [each.queue.name for each in frame.queues] == ["own-z"]
    assert [(each.session.session_id, len(each.runs)) for each in frame.workers] == [(str(session), 1)]
    assert (frame.queues_capped, frame.workers_capped) == (False, False)


async def test_what_a_part_of_the_cluster_needs_is_shown_although_others_need_more(
    guarded: Stubs, seed: Seed, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cluster, "MOST_NEEDS", 3)
    own = await made(guarded.admin, ROOT, "own", "read", "own*")
    await seed.session(patterns=("own-served", "a-served"), tasks=("known",))
    for place in ("a", "b", "own"):
        await seed.ready(await seed.task(queue=place, name="known"))
        await seed.ready(await seed.task(queue=f"{place}-served", name=f"strange-{place}"))
        await seed.ready(await seed.task(queue="a-served", name=f"more-{place}"))
        await seed.execute(
            "insert into concurrency_limit (namespace, scope, name, maximum, source)"
            " values (0, 'queue', $1, 0, 'operator')",
            f"{place}-served",
        )
    await seed.execute("update ready set arrival = arrival - interval '6 minutes'")
    call = guarded.admin.WatchCluster(admin_wire.WatchClusterRequest(), metadata=own)
    needs = [(need.kind, need.queue, need.name) for need in (await call.read()).needs]
    call.cancel()
    assert needs == [
        (admin_wire.NEED_KIND_QUEUE_NOT_SERVED, "own", ""),
        (admin_wire.NEED_KIND_TASK_UNKNOWN, "own-served", "strange-own"),
        (admin_wire.NEED_KIND_LIMIT_FULL, "own-served", ""),
    ]


async def test_a_bulk_operation_stays_within_the_queues_of_who_began_it(guarded: Stubs, seed: Seed) -> None:
    own = await made(guarded.admin, ROOT, "own", "read admin", "own*")
    others = await made(guarded.admin, ROOT, "others", "read admin", "another")
    for queue in ("own-1", "another"):
        await seed.ready(await seed.task(queue=queue, name="send"))
    request = admin_wire.StartBulkOperationRequest(
        action=admin_wire.BULK_ACTION_CANCEL, filter=task_service_pb2.TaskFilter(names=["*"]), reason="tidy"
    )
    request.dry_run = True
    assert (await guarded.admin.StartBulkOperation(request, metadata=own)).count == 1
    request.dry_run = False
    operation = (await guarded.admin.StartBulkOperation(request, metadata=own)).operation
    assert operation.who == "own"
    get = admin_wire.GetBulkOperationRequest(operation_id=operation.operation_id)
    async with asyncio.timeout(60):
        while not operation.HasField("ended_at"):
            operation = (await guarded.admin.GetBulkOperation(get, metadata=own)).operation
            await asyncio.sleep(0.01)
    assert operation.done == 1
    left = "select queue from ready join lane on lane.id = ready.lane"
    assert await seed.execute(left) == "another"
    stop = admin_wire.StopBulkOperationRequest(operation_id=operation.operation_id)
    every = admin_wire.ListBulkOperationsRequest()
    assert await outcome_of(guarded.admin.GetBulkOperation(get, metadata=others)) == "PEER_NOT_FOUND"
    assert await outcome_of(guarded.admin.StopBulkOperation(stop, metadata=others)) == "PEER_NOT_FOUND"
    assert not (await guarded.admin.ListBulkOperations(every, metadata=others)).operations
    assert len((await guarded.admin.ListBulkOperations(every, metadata=bearer(ROOT))).operations) == 1
    (entry,) = await seed.rows("select * from audit where action = 'bulk.cancel'")
    assert (entry["who"], operation.operation_id in map(str, entry.values())) == ("own", True)
