"""QueueService and AdminService over a real channel."""

import pytest
from google.protobuf.duration_pb2 import Duration

from hyrex.v1 import admin_service_pb2, queue_service_pb2, task_pb2, task_service_pb2
from hyrex.v1.task_pb2 import Rate
from hyrex_broker.service.pages import PageTokens
from hyrex_broker.storage import purge, queues
from hyrex_broker.storage.pool import Database
from hyrex_broker.storage.secrets import SecretStore
from tests.integration.service.seeding import Seed
from tests.integration.service.stubs import Stubs, reason_of


async def test_a_queue_tells_what_is_in_it(stubs: Stubs, seed: Seed) -> None:
    session = await seed.session(patterns=("ma*",))
    await seed.session(patterns=("other",))
    await seed.session(patterns=("mail",), ended=True)
    for name in ("send", "fetch"):
        await seed.ready(await seed.task(queue="mail", name=name))
        await seed.delayed(await seed.task(queue="mail", name=name))
    await seed.lease(await seed.task(queue="mail"), session)
    await seed.ready(await seed.task(queue="other"))
    queue = (await stubs.queues.GetQueue(queue_service_pb2.GetQueueRequest(name="mail"))).queue
    assert (queue.queued, queue.delayed, queue.running, queue.workers) == (2, 2, 1, 1)
    assert (queue.paused, queue.queued_capped, queue.concurrency_limit) == (False, False, 0)


async def test_what_waits_for_its_concurrency_key_is_blocked_and_not_queued(
    stubs: Stubs, seed: Seed, monkeypatch: pytest.MonkeyPatch
) -> None:
    for _ in range(3):
        await seed.blocked(await seed.task(queue="mail"))
    await seed.blocked(await seed.task(queue="other"))
    request = queue_service_pb2.GetQueueRequest(name="mail")
    queue = (await stubs.queues.GetQueue(request)).queue
    assert (queue.queued, queue.delayed, queue.blocked, queue.running) == (0, 0, 3, 0)
    monkeypatch.setattr(queues, "COUNT_CAP", 2)
    assert (await stubs.queues.GetQueue(request)).queue.blocked == 2
    listed = await stubs.queues.ListQueues(queue_service_pb2.ListQueuesRequest())
    assert {queue.name: queue.blocked for queue in listed.queues} == {"mail": 2, "other": 1}


async def test_a_count_stops_at_its_cap(stubs: Stubs, seed: Seed, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(queues, "COUNT_CAP", 3)
    for _ in range(3):
        await seed.ready(await seed.task())
    request = queue_service_pb2.GetQueueRequest(name="default")
    queue = (await stubs.queues.GetQueue(request)).queue
    assert (queue.queued, queue.queued_capped) == (3, False)
    await seed.ready(await seed.task(name="else"))
    queue = (await stubs.queues.GetQueue(request)).queue
    assert (queue.queued, queue.queued_capped) == (3, True)


async def test_queues_are_listed_by_name_page_by_page(stubs: Stubs, seed: Seed) -> None:
    for name in ("c", "a", "b"):
        await seed.lane(name)
    request = queue_service_pb2.ListQueuesRequest(page_size=2)
    first = await stubs.queues.ListQueues(request)
    request.page_token = first.next_page_token
    second = await stubs.queues.ListQueues(request)
    assert [queue.name for queue in (*first.queues, *second.queues)] == ["a", "b", "c"]
    assert second.next_page_token == ""


async def test_an_update_sets_limit_and_pause_and_tells_the_engine(stubs: Stubs, seed: Seed) -> None:
    lane = await seed.lane("mail")
    request = queue_service_pb2.UpdateQueueRequest(name="mail", concurrency_limit=2, paused=True)
    queue = (await stubs.queues.UpdateQueue(request)).queue
    assert (queue.concurrency_limit, queue.paused, stubs.recorded.changes) == (2, True, 1)
    assert await seed.execute("select limited from lane where id = $1", lane)
    assert await seed.execute("select source from concurrency_limit") == "operator"
    resume = queue_service_pb2.UpdateQueueRequest(name="mail", paused=False)
    queue = (await stubs.queues.UpdateQueue(resume)).queue
    assert (queue.concurrency_limit, queue.paused) == (2, False)
    unlimit = queue_service_pb2.UpdateQueueRequest(name="mail", concurrency_limit=0)
    queue = (await stubs.queues.UpdateQueue(unlimit)).queue
    assert (queue.concurrency_limit, queue.paused) == (0, False)
    assert not await seed.execute("select limited from lane where id = $1", lane)


async def test_a_rate_and_a_maximum_are_one_limit_of_which_each_part_changes_alone(
    stubs: Stubs, seed: Seed
) -> None:
    lane = await seed.lane("mail")
    update = queue_service_pb2.UpdateQueueRequest
    rate = Rate(count=100, period=Duration(seconds=60), burst=7)
    await stubs.queues.UpdateQueue(update(name="mail", concurrency_limit=2))
    queue = (await stubs.queues.UpdateQueue(update(name="mail", rate=rate))).queue
    assert (queue.concurrency_limit, queue.rate, queue.HasField("next_token_at")) == (2, rate, False)
    assert await seed.execute("select details->>'rate' from audit order by id desc limit 1") == (
        "100 per minute, burst 7"
    )
    await seed.execute(
        "insert into rate_use (namespace, scope, name, full_at)"
        " values (0, 'queue', 'mail', now() + interval '4.2 s')"
    )
    queue = (await stubs.queues.GetQueue(queue_service_pb2.GetQueueRequest(name="mail"))).queue
    assert queue.HasField("next_token_at"), "it is full in 4.2 s, so one token comes in 0.6 s"
    queue = (await stubs.queues.UpdateQueue(update(name="mail", concurrency_limit=0))).queue
    assert (queue.concurrency_limit, queue.rate) == (0, rate)
    assert await seed.execute("select limited from lane where id = $1", lane)
    queue = (await stubs.queues.UpdateQueue(update(name="mail", rate=Rate()))).queue
    assert not queue.HasField("rate")
    assert not await seed.execute("select limited from lane where id = $1", lane)


async def test_a_limit_of_the_task_keeps_its_lane_limited(stubs: Stubs, seed: Seed) -> None:
    lane = await seed.lane("mail", "send")
    await seed.execute("insert into concurrency_limit values (0, 'task', 'send', 1, 'code')")
    for limit in (2, 0):
        request = queue_service_pb2.UpdateQueueRequest(name="mail", concurrency_limit=limit)
        await stubs.queues.UpdateQueue(request)
        assert await seed.execute("select limited from lane where id = $1", lane)


async def test_an_update_creates_the_queue(stubs: Stubs) -> None:
    request = queue_service_pb2.UpdateQueueRequest(name="new", paused=True)
    assert (await stubs.queues.UpdateQueue(request)).queue.paused


async def test_a_purge_cancels_what_waits_and_leaves_what_runs(
    stubs: Stubs, seed: Seed, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(purge, "CHUNK", 2)
    waiting = [await seed.ready(await seed.task(queue="mail")) for _ in range(5)]
    waiting += [await seed.delayed(await seed.task(queue="mail", name="later"), 1) for _ in range(3)]
    running = await seed.lease(await seed.task(queue="mail"), await seed.session())
    other = await seed.ready(await seed.task())
    watch = stubs.tasks.WatchTasks(task_service_pb2.WatchTasksRequest(task_ids=waiting[:1]), timeout=60)
    await watch.read()
    answer = await stubs.queues.PurgeQueue(queue_service_pb2.PurgeQueueRequest(name="mail", reason="tests"))
    assert answer.cancelled == 8
    assert (await watch.read()).tasks[0].status == task_pb2.TASK_STATUS_CANCELLED
    for task_id, status in ((waiting[-1], 8), (running, 4), (other, 1)):
        task = (await stubs.tasks.GetTask(task_service_pb2.GetTaskRequest(task_id=task_id))).task
        assert task.status == status
    for task_id, number in ((waiting[-1], 1), (waiting[0], 0)):
        task = (await stubs.tasks.GetTask(task_service_pb2.GetTaskRequest(task_id=task_id))).task
        told = [(run.run_number, run.reason, run.cause) for run in task.runs]
        assert told == [(number, "tests", task_pb2.CANCEL_CAUSE_PURGED)]


async def test_a_purge_waits_for_nobody(stubs: Stubs, seed: Seed, database_url: str) -> None:
    held = await seed.ready(await seed.task())
    await seed.ready(await seed.task())
    async with Seed.connected(database_url) as other:
        await other.execute("begin")
        await other.execute("select task_id from ready where task_id = $1 for update", held)
        request = queue_service_pb2.PurgeQueueRequest(name="default")
        assert (await stubs.queues.PurgeQueue(request, timeout=60)).cancelled == 1
        await other.execute("rollback")


async def test_queue_requests_are_checked(stubs: Stubs) -> None:
    rpcs, messages = stubs.queues, queue_service_pb2
    assert await reason_of(rpcs.GetQueue(messages.GetQueueRequest(name="absent"))) == "QUEUE_NOT_FOUND"
    assert await reason_of(rpcs.PurgeQueue(messages.PurgeQueueRequest(name="absent"))) == "QUEUE_NOT_FOUND"
    for name in ("", "x" * 256, "a\0b"):
        assert await reason_of(rpcs.GetQueue(messages.GetQueueRequest(name=name))) == "INVALID_FIELD"
        assert await reason_of(rpcs.UpdateQueue(messages.UpdateQueueRequest(name=name))) == "INVALID_FIELD"
        assert await reason_of(rpcs.PurgeQueue(messages.PurgeQueueRequest(name=name))) == "INVALID_FIELD"
    limited = messages.UpdateQueueRequest(name="mail", concurrency_limit=-1)
    assert await reason_of(rpcs.UpdateQueue(limited)) == "INVALID_FIELD"
    hourly = messages.UpdateQueueRequest(name="mail", rate=Rate(count=0, period=Duration(seconds=3600)))
    assert await reason_of(rpcs.UpdateQueue(hourly)) == "INVALID_FIELD"
    token = messages.ListQueuesRequest(page_token="made up")
    assert await reason_of(rpcs.ListQueues(token)) == "PAGE_TOKEN_INVALID"


@pytest.mark.parametrize("cursor", ["0001-01-01T00:00:00+23:59", "9999-12-31T23:59:59-23:59", "x", "1", "\n"])
async def test_a_step_that_is_sealed_and_holds_no_time_is_refused(
    stubs: Stubs, database: Database, cursor: str
) -> None:
    """What a token holds is checked as any other field: brokers of another version share the secret."""
    step = await PageTokens(SecretStore(database)).token(cursor, ["purge", "mail"])
    purge = queue_service_pb2.PurgeQueueRequest(name="mail", in_steps=True, step=step)
    assert await reason_of(stubs.queues.PurgeQueue(purge)) == "PAGE_TOKEN_INVALID"


async def test_workers_are_listed_newest_first(stubs: Stubs, seed: Seed) -> None:
    owner = await seed.broker("first")
    sessions = [await seed.session(owner=owner, worker=f"worker-{number}") for number in range(3)]
    gone = await seed.session(owner=owner, ended=True)
    await seed.session(owner=owner, ttl_s=-1)
    await seed.lease(await seed.task(), sessions[0])
    request = admin_service_pb2.ListWorkersRequest(page_size=2)
    first = await stubs.admin.ListWorkers(request)
    request.page_token = first.next_page_token
    second = await stubs.admin.ListWorkers(request)
    listed = [*first.workers, *second.workers]
    assert [worker.session_id for worker in listed] == [str(each) for each in reversed(sessions)]
    assert (listed[2].worker_name, listed[2].broker, listed[2].running) == ("worker-0", "first", 1)
    ended = await stubs.admin.ListWorkers(admin_service_pb2.ListWorkersRequest(include_ended=True))
    assert (len(ended.workers), str(gone) in {worker.session_id for worker in ended.workers}) == (5, True)


async def test_a_drained_worker_is_flagged_and_told(stubs: Stubs, seed: Seed) -> None:
    session = await seed.session()
    await stubs.admin.DrainWorker(admin_service_pb2.DrainWorkerRequest(session_id=str(session)))
    assert stubs.recorded.drained_sessions == [session]
    assert await seed.execute("select draining from worker_session where id = $1", session)


async def test_only_a_living_worker_is_drained(stubs: Stubs, seed: Seed) -> None:
    ended = await seed.session(ended=True)
    drain, message = stubs.admin.DrainWorker, admin_service_pb2.DrainWorkerRequest
    for text in (str(ended), "999"):
        assert await reason_of(drain(message(session_id=text))) == "PEER_NOT_FOUND"
    for text in ("", "x", "-1", "9" * 19, "٣"):
        assert await reason_of(drain(message(session_id=text))) == "INVALID_FIELD"
    assert stubs.recorded.drained_sessions == []


async def test_brokers_seen_lately_are_listed(stubs: Stubs, seed: Seed) -> None:
    second, first = await seed.broker("second"), await seed.broker("first")
    gone = await seed.broker("gone")
    await seed.execute("update broker set seen_at = now() - interval '2 minutes' where id = $1", gone)
    await seed.session(owner=first)
    await seed.session(owner=second, ended=True)
    brokers = (await stubs.admin.ListBrokers(admin_service_pb2.ListBrokersRequest())).brokers
    assert [(broker.name, broker.workers) for broker in brokers] == [("first", 1), ("second", 0)]


async def test_a_broker_is_asked_to_drain(stubs: Stubs) -> None:
    await stubs.admin.DrainBroker(admin_service_pb2.DrainBrokerRequest())
    assert stubs.recorded.drained.is_set()


async def test_a_purge_in_steps_goes_to_the_end_and_leaves_what_came_later(
    stubs: Stubs, seed: Seed, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(purge, "CHUNK", 2)
    monkeypatch.setattr("hyrex_broker.service.queues._STEP_S", 0.0)
    for _ in range(5):
        await seed.ready(await seed.task(queue="mail"))
    request = queue_service_pb2.PurgeQueueRequest(name="mail", in_steps=True)
    first = await stubs.queues.PurgeQueue(request)
    assert (first.cancelled, bool(first.next_step)) == (2, True)
    late = await seed.ready(await seed.task(queue="mail"))
    cancelled, request.step = 2, first.next_step
    while request.step:
        answer = await stubs.queues.PurgeQueue(request)
        cancelled, request.step = cancelled + answer.cancelled, answer.next_step
    assert cancelled == 5
    assert [str(row["task_id"]) for row in await seed.rows("select task_id from ready")] == [late]
    request.step = first.next_step[:-4]
    assert await reason_of(stubs.queues.PurgeQueue(request)) == "PAGE_TOKEN_INVALID"
    request.name, request.step = "other", first.next_step
    assert await reason_of(stubs.queues.PurgeQueue(request)) == "PAGE_TOKEN_INVALID"


async def test_an_empty_page_that_is_not_the_last_says_how_far_it_looked(
    stubs: Stubs, seed: Seed, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hyrex_broker.storage.listing._TIME_BUDGET_S", 0.0)
    monkeypatch.setattr("hyrex_broker.storage.listing._FIRST_LOOK", 3)
    rare = await seed.ready(await seed.task(queue="rare"))
    common = [await seed.task(queue="common") for _ in range(6)]
    request = task_service_pb2.ListTasksRequest(queue="rare", page_size=1)
    pages = []
    while True:
        pages.append(await stubs.tasks.ListTasks(request))
        request.page_token = pages[-1].next_page_token
        if not request.page_token:
            break
    assert [task.task_id for page in pages for task in page.tasks] == [rare]
    first = pages[0]
    assert not first.tasks
    looked_back_to = first.looked_back_to.ToMilliseconds()
    assert looked_back_to == int(common[3][:8] + common[3][9:13], 16)
    assert not pages[-1].HasField("looked_back_to")
