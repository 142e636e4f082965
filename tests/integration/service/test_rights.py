"""What a token may not do is refused, and what it may not see is not there: each RPC, over a real channel."""

import asyncio
import hashlib
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import grpc
import grpc.aio
import pytest

from hyrex.v1 import (
    admin_service_pb2 as admin_wire,
)
from hyrex.v1 import (
    queue_service_pb2,
    task_pb2,
    task_service_pb2,
)
from hyrex_broker.domain.tokens import is_whole, make_token
from hyrex_broker.engine.audit import MOST_NAMED
from hyrex_broker.service import requests
from hyrex_broker.service.scopes import SCOPES
from hyrex_broker.service.server import SERVICES
from hyrex_broker.storage.pool import Database
from tests.integration.service.seeding import Seed, make_id
from tests.integration.service.stubs import Stubs, ids_of, reason_of, serving
from tests.support.tokens import bearer, made, wanted

ROOT = "the token that this broker was started with"
Metadata = Sequence[tuple[str, str]]


@pytest.fixture
async def guarded(database: Database, database_url: str) -> AsyncIterator[Stubs]:
    """All services, for callers with tokens only."""
    async with serving(database, database_url, ROOT) as stubs:
        yield stubs


async def outcome_of(call: Any) -> str:
    """The reason of a refusal, or "" of an answer."""
    try:
        await call
    except grpc.aio.AioRpcError as error:
        return await reason_of(_raised(error))
    return ""


async def _raised(error: Exception) -> None:
    raise error


def test_every_rpc_says_which_scope_it_needs() -> None:
    """An RPC without one would be served to nobody."""
    from google.protobuf.descriptor_pool import Default

    methods = {
        f"/{name}/{method.name}" for name in SERVICES for method in Default().FindServiceByName(name).methods
    }
    assert methods == set(SCOPES)


async def test_a_token_is_shown_once_and_only_its_hash_is_stored(guarded: Stubs, seed: Seed) -> None:
    answer = await guarded.admin.CreateToken(wanted("ci", "submit read", "ci-*"), metadata=bearer(ROOT))
    assert is_whole(answer.secret)
    assert answer.enforced
    row = await seed.rows("select * from token")
    assert row[0]["hash"] == hashlib.sha256(answer.secret.encode()).digest()
    assert not [value for value in row[0].values() if answer.secret in str(value)]
    listed = await guarded.admin.ListTokens(admin_wire.ListTokensRequest(), metadata=bearer(ROOT))
    (token,) = listed.tokens
    assert (token.name, list(token.queue_patterns)) == ("ci", ["ci-*"])
    assert answer.secret.endswith(token.ending)
    assert answer.secret not in str(listed)


async def test_who_lacks_the_scope_of_an_rpc_is_refused_whatever_it_asks(guarded: Stubs) -> None:
    nothing = await made(guarded.admin, ROOT, "payload-only", "payload")
    calls = {
        f"/hyrex.v1.{service}/{method}": getattr(stub, method)
        for service, stub in (
            ("TaskService", guarded.tasks),
            ("QueueService", guarded.queues),
            ("AdminService", guarded.admin),
        )
        for method in dir(stub)
        if f"/hyrex.v1.{service}/{method}" in SCOPES
    }
    assert len(calls) == len(SCOPES) - 2  # without those of workers
    calls.pop("/hyrex.v1.AdminService/GetCaller")
    for method, call in calls.items():
        request = b""
        name = method.rpartition("/")[2]
        kind = next(
            getattr(module, f"{name}Request")
            for module in (task_service_pb2, queue_service_pb2, admin_wire)
            if hasattr(module, f"{name}Request")
        )
        if name == "StreamSubmit":
            stream = call(metadata=nothing)
            answer = stream.read()
        elif name in ("WatchTasks", "WatchCluster"):
            answer = call(kind(), metadata=nothing).read()
        else:
            answer = call(kind.FromString(request), metadata=nothing)
        assert await outcome_of(answer) == "RIGHT_MISSING", method


@pytest.mark.parametrize("scope", ["submit", "work", "read", "admin"])
async def test_a_scope_gives_its_rpcs_and_no_others(guarded: Stubs, scope: str) -> None:
    own = await made(guarded.admin, ROOT, "own", scope)
    calls: dict[str, Any] = {
        "submit": lambda: guarded.tasks.CancelTasks(task_service_pb2.CancelTasksRequest(), metadata=own),
        "read": lambda: guarded.queues.ListQueues(queue_service_pb2.ListQueuesRequest(), metadata=own),
        "admin": lambda: guarded.admin.ListTokens(admin_wire.ListTokensRequest(), metadata=own),
    }
    for name, call in calls.items():
        assert await outcome_of(call()) == ("" if name == scope else "RIGHT_MISSING")


async def test_any_token_may_ask_what_it_may_do(guarded: Stubs) -> None:
    own = await made(guarded.admin, ROOT, "own", "submit work", "own*", "b")
    told = await guarded.admin.GetCaller(admin_wire.GetCallerRequest(), metadata=own)
    assert (told.name, list(told.queue_patterns), told.enforced) == ("own", ["own*", "b"], True)
    assert list(told.scopes) == [admin_wire.TOKEN_SCOPE_SUBMIT, admin_wire.TOKEN_SCOPE_WORK]
    everything = await guarded.admin.GetCaller(admin_wire.GetCallerRequest(), metadata=bearer(ROOT))
    assert (everything.name, len(everything.scopes)) == ("root", 5)
    assert await reason_of(guarded.admin.GetCaller(admin_wire.GetCallerRequest())) == "TOKEN_INVALID"


async def test_what_is_no_token_of_this_broker_is_refused(guarded: Stubs, seed: Seed) -> None:
    good = await made(guarded.admin, ROOT, "good", "read")
    expired = await made(guarded.admin, ROOT, "expired", "read")
    revoked = await made(guarded.admin, ROOT, "revoked", "read")
    await seed.execute("update token set expires_at = now() - interval '1 s' where name = 'expired'")
    await guarded.admin.RevokeToken(admin_wire.RevokeTokenRequest(name="revoked"), metadata=bearer(ROOT))
    request = queue_service_pb2.ListQueuesRequest()
    for metadata in ((), bearer("wrong"), bearer(make_token()), expired, revoked):
        assert await reason_of(guarded.queues.ListQueues(request, metadata=metadata)) == "TOKEN_INVALID"
    assert await outcome_of(guarded.queues.ListQueues(request, metadata=good)) == ""


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


async def test_nobody_gives_more_than_it_has_nor_sees_who_has_more(guarded: Stubs) -> None:
    own = await made(guarded.admin, ROOT, "own", "admin submit", "own-*")
    await made(guarded.admin, ROOT, "mighty", "work", "own-*")
    for scopes, queue in (
        ("work", "own-1"),
        ("submit", "*"),
        ("submit", "own*"),
        ("admin submit", "another"),
    ):
        assert await reason_of(guarded.admin.CreateToken(wanted("x", scopes, queue), metadata=own)) == (
            "RIGHT_MISSING"
        )
    await guarded.admin.CreateToken(wanted("child", "submit", "own-1", "own-b*"), metadata=own)
    for size in (1, 100):
        names: list[str] = []
        request = admin_wire.ListTokensRequest(page_size=size)
        while not names or request.page_token:
            page = await guarded.admin.ListTokens(request, metadata=own)
            names += [token.name for token in page.tokens]
            request.page_token = page.next_page_token
        assert names == ["child", "own"]
    revoke = admin_wire.RevokeTokenRequest
    assert await reason_of(guarded.admin.RevokeToken(revoke(name="mighty"), metadata=own)) == "PEER_NOT_FOUND"
    assert await outcome_of(guarded.admin.RevokeToken(revoke(name="child"), metadata=own)) == ""
    assert await reason_of(guarded.admin.RevokeToken(revoke(name="child"), metadata=own)) == "PEER_NOT_FOUND"


@pytest.mark.parametrize(
    "changes",
    [
        {"name": ""},
        {"name": "two words"},
        {"name": "schlüssel"},
        {"name": "root"},
        {"name": "Anyone"},
        {"scopes": []},
        {"scopes": [0]},
        {"scopes": [99]},
        {"queue_patterns": []},
        {"queue_patterns": ["*a*b*c*d*"]},
        {"queue_patterns": [""]},
        {"expires_at": datetime.now(UTC) - timedelta(days=1)},
    ],
)
async def test_a_token_that_makes_no_sense_is_refused(guarded: Stubs, changes: dict[str, Any]) -> None:
    fields = {"name": "n", "scopes": [1], "queue_patterns": ["*"]} | changes
    request = admin_wire.CreateTokenRequest(**fields)
    assert await reason_of(guarded.admin.CreateToken(request, metadata=bearer(ROOT))) == "INVALID_FIELD"


async def test_a_name_is_free_again_when_its_token_has_ended(guarded: Stubs, seed: Seed) -> None:
    create = guarded.admin.CreateToken
    first = (await create(wanted("ci", "read"), metadata=bearer(ROOT))).secret
    assert await reason_of(create(wanted("ci", "read"), metadata=bearer(ROOT))) == "TOKEN_EXISTS"
    await seed.execute("update token set expires_at = now() - interval '1 s'")
    second = (await create(wanted("ci", "read"), metadata=bearer(ROOT))).secret
    assert second != first
    request = queue_service_pb2.ListQueuesRequest()
    assert await outcome_of(guarded.queues.ListQueues(request, metadata=bearer(second))) == ""
    ended = admin_wire.ListTokensRequest(include_ended=True)
    listed = await guarded.admin.ListTokens(ended, metadata=bearer(ROOT))
    assert [token.HasField("revoked_at") for token in listed.tokens] == [True, False]


async def test_what_admins_do_and_who_saw_payloads_is_recorded(guarded: Stubs, seed: Seed) -> None:
    boss = await made(guarded.admin, ROOT, "boss", "admin read payload")
    task_id, other_id = await seed.task(), await seed.task()
    await guarded.queues.UpdateQueue(
        queue_service_pb2.UpdateQueueRequest(name="q", paused=True, concurrency_limit=3), metadata=boss
    )
    for seen in (*[task_id] * MOST_NAMED, other_id):
        await guarded.tasks.GetTask(task_service_pb2.GetTaskRequest(task_id=seen), metadata=boss)
    nothing = task_service_pb2.ListTasksRequest(page_size=1, queue="empty")
    await guarded.tasks.ListTasks(nothing, metadata=boss)
    await guarded.audit.flush()
    entries: list[Any] = []
    token = ""
    while True:
        page = await guarded.admin.ListAudit(
            admin_wire.ListAuditRequest(page_size=1, page_token=token), metadata=boss
        )
        entries += page.entries
        token = page.next_page_token
        if not token:
            break
    assert [(entry.who, entry.action, entry.object) for entry in reversed(entries)] == [
        ("root", "token.create", "boss"),
        ("boss", "queue.update", "q"),
        ("boss", "task.get", ""),
    ]
    assert dict(entries[1].details) == {"paused": "true", "limit": "3"}
    assert entries[0].details["count"] == str(MOST_NAMED + 1)
    assert entries[0].details["tasks"].split() == [task_id, other_id], "a page that is read anew hides none"
    narrow = await made(guarded.admin, ROOT, "narrow", "admin", "q")
    assert await reason_of(guarded.admin.ListAudit(admin_wire.ListAuditRequest(), metadata=narrow)) == (
        "RIGHT_MISSING"
    )


async def test_a_purge_that_seems_to_go_on_is_recorded_as_well(guarded: Stubs, seed: Seed) -> None:
    """A step is no secret: whoever makes one up begins a purge with it."""
    boss = await made(guarded.admin, ROOT, "boss", "admin")
    await seed.ready(await seed.task(queue="mail"))
    step = requests.page_token(datetime.now(UTC).isoformat(), ["purge", "mail"])
    purge = queue_service_pb2.PurgeQueueRequest(name="mail", reason="hush", in_steps=True, step=step)
    assert (await guarded.queues.PurgeQueue(purge, metadata=boss)).cancelled == 1
    (entry,) = await seed.rows("select who, object from audit where action = 'queue.purge'")
    assert tuple(entry) == ("boss", "mail")


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
