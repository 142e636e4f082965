"""Bulk operations: portion by portion, each task acted on once, stopped and taken up without a gap."""

import asyncio
import time
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any

import pytest
from google.protobuf.duration_pb2 import Duration

from hyrex.v1 import admin_service_pb2 as messages
from hyrex.v1 import task_pb2
from hyrex.v1.task_service_pb2 import ListTasksRequest, TaskFilter
from hyrex_broker.domain.bulk import BulkAction, BulkOperation, acted_on
from hyrex_broker.domain.model import BrokerId, TaskId
from hyrex_broker.engine.bulk import BulkOperations
from hyrex_broker.service import bulk, filters
from hyrex_broker.storage.bulk import Advance, BulkStore, NotOursError
from hyrex_broker.storage.listing import TaskLists
from hyrex_broker.storage.pool import Database
from hyrex_broker.storage.retention import RetentionStore
from tests.integration.service.seeding import Seed, make_id
from tests.integration.service.stubs import Recorded, Stubs, ids_of, reason_of
from tests.support.loops import end

CANCEL, RETRY = messages.BULK_ACTION_CANCEL, messages.BULK_ACTION_RETRY
MAIL = TaskFilter(queues=["mail"])
# Not the broker of the stubs, which would go on with what it finds to be its own.
FIRST, OTHER = BrokerId(11), BrokerId(12)


async def start(stubs: Stubs, **wanted: Any) -> messages.BulkOperation:
    answer = await stubs.admin.StartBulkOperation(messages.StartBulkOperationRequest(**wanted))
    operation: messages.BulkOperation = answer.operation
    return operation


async def get(stubs: Stubs, operation_id: str) -> messages.BulkOperation:
    request = messages.GetBulkOperationRequest(operation_id=operation_id)
    operation: messages.BulkOperation = (await stubs.admin.GetBulkOperation(request)).operation
    return operation


async def ended(stubs: Stubs, operation: messages.BulkOperation) -> messages.BulkOperation:
    async with asyncio.timeout(60):
        while operation.state == messages.BULK_STATE_RUNNING:
            operation = await get(stubs, operation.operation_id)
            await asyncio.sleep(0.01)
    return operation


async def failed(seed: Seed, count: int, **task: Any) -> list[TaskId]:
    made = [await seed.task(queue="mail", **task) for _ in range(count)]
    return [await seed.run(task_id, 3, error="Timeout") for task_id in sorted(made)]


async def test_all_that_a_filter_fits_are_cancelled_and_no_others(stubs: Stubs, seed: Seed) -> None:
    stubs.steering.bulk.portion = 2
    session = await seed.session()
    waiting = [await seed.ready(await seed.task(queue="mail")) for _ in range(5)]
    waiting.append(await seed.delayed(await seed.task(queue="mail")))
    running = await seed.lease(await seed.task(queue="mail"), session)
    spared = await seed.ready(await seed.task(queue="other"))
    over = await seed.run(await seed.task(queue="mail"))
    operation = await ended(stubs, await start(stubs, action=CANCEL, filter=MAIL, reason="a bad release"))
    assert (operation.state, operation.matched, operation.done) == (messages.BULK_STATE_DONE, 7, 7)
    assert operation.HasField("ended_at")
    rows = await seed.rows("select task_id, reason from task_run where outcome = 5 and final")
    assert {(str(row[0]), row[1]) for row in rows} == {(task_id, "a bad release") for task_id in waiting}
    assert str(await seed.execute("select task_id from lease where cancel_at is not null")) == running
    assert str(await seed.execute("select task_id from ready")) == spared
    assert await seed.execute("select count(*) from task_run where task_id = $1", over) == 1
    assert sorted(stubs.recorded.followed) == sorted([*waiting, running])


async def test_what_failed_is_retried_once_whatever_becomes_of_it(stubs: Stubs, seed: Seed) -> None:
    stubs.steering.bulk.portion = 2
    dead = await failed(seed, 5)
    await seed.run(await seed.task(queue="mail"), 3, error="ValueError")
    await seed.run(await seed.task(queue="mail"), 5)
    wanted = TaskFilter(queues=["mail"], error_types=["Time*"])
    operation = await ended(stubs, await start(stubs, action=RETRY, filter=wanted))
    assert (operation.matched, operation.done) == (5, 5)
    rows = await seed.rows("select task_id, run_number from ready")
    assert {(str(row[0]), row[1]) for row in rows} == {(task_id, 1) for task_id in dead}


async def test_what_was_dismissed_is_retried_only_where_its_status_is_named(stubs: Stubs, seed: Seed) -> None:
    await failed(seed, 1)
    await ended(stubs, await start(stubs, action=messages.BULK_ACTION_DISMISS, filter=MAIL))
    (left,) = await failed(seed, 1)
    for of_kind in (TaskFilter(queues=["mail"]), TaskFilter(queues=["mail"], error_types=["Timeout"])):
        request = messages.StartBulkOperationRequest(action=RETRY, filter=of_kind, dry_run=True)
        assert (await stubs.admin.StartBulkOperation(request)).count == 1
    operation = await ended(stubs, await start(stubs, action=RETRY, filter=MAIL))
    assert (operation.matched, operation.done) == (1, 1)
    assert str(await seed.execute("select task_id from ready")) == left
    named = TaskFilter(queues=["mail"], statuses=[task_pb2.TASK_STATUS_FAILED])
    operation = await ended(stubs, await start(stubs, action=RETRY, filter=named))
    assert (operation.matched, operation.done) == (1, 1)


async def test_a_dry_run_counts_and_changes_nothing(stubs: Stubs, seed: Seed) -> None:
    await failed(seed, 3)
    await seed.ready(await seed.task(queue="mail"))
    request = messages.StartBulkOperationRequest(action=RETRY, filter=MAIL, dry_run=True)
    answer = await stubs.admin.StartBulkOperation(request)
    assert (answer.count, answer.more, answer.HasField("operation")) == (3, False, False)
    assert await seed.execute("select count(*) from bulk_operation") == 0
    assert await seed.execute("select count(*) from ready") == 1


async def test_the_same_operation_twice_is_one(stubs: Stubs, seed: Seed) -> None:
    await failed(seed, 1)
    operation_id = str(uuid.uuid4())
    first = await start(stubs, action=RETRY, filter=MAIL, operation_id=operation_id)
    await ended(stubs, first)
    await seed.execute("delete from ready")
    await seed.execute("insert into task_run select task_id, 1, 1, 3, true from task_run")
    second = await start(stubs, action=RETRY, filter=MAIL, operation_id=operation_id)
    assert (second.state, second.done) == (messages.BULK_STATE_DONE, 1)
    assert await seed.execute("select count(*) from bulk_operation") == 1


async def test_tasks_made_after_its_start_are_left(stubs: Stubs, seed: Seed) -> None:
    await seed.ready(await seed.task(queue="mail"))
    soon = int(time.time() * 1000) + 30_000
    later = await seed.ready(await seed.task(make_id(soon), queue="mail"))
    operation = await ended(stubs, await start(stubs, action=CANCEL, filter=MAIL))
    assert operation.done == 1
    assert str(await seed.execute("select task_id from ready")) == later


class Half:
    """An operation of three tasks of which one portion of one task is committed, by the first broker."""

    def __init__(self, database: Database, operation_id: str) -> None:
        self.database = database
        self.operation_id = operation_id
        self.store = BulkStore(database)
        self.recorded = Recorded()
        self.other = BulkOperations(self.store, TaskLists(database), self.recorded, OTHER)

    @asynccontextmanager
    async def other_broker(self) -> AsyncIterator[None]:
        """Another broker works while this is open."""
        running = asyncio.create_task(self.other.run())
        try:
            yield
        finally:
            await end(running)


async def lost_in_the_middle(store: BulkStore, operation: BulkOperation, tasks: list[TaskId]) -> None:
    async with store.step(operation, FIRST) as step:
        await step.store.retry(tasks)
        raise RuntimeError("the broker is lost")


@pytest.fixture
async def half(database: Database, seed: Seed) -> Half:
    """Begun by a broker that is gone: its step was committed, and its next one was rolled back."""
    tasks = await failed(seed, 3)
    store = BulkStore(database)
    request = messages.StartBulkOperationRequest(action=RETRY, filter=MAIL)
    selection = acted_on(BulkAction.RETRY, filters.of_filter(MAIL))
    assert selection is not None
    operation = bulk._operation(request, BulkAction.RETRY, selection, "ops")
    await store.begin(operation)
    taken = await store.take_up(FIRST)
    assert taken is not None
    async with store.step(taken, FIRST) as step:
        await step.store.retry(tasks[2:])
        step.progress = Advance(tasks[2], 1, 1)
    found = await store.take_up(FIRST)
    assert found is not None
    with pytest.raises(RuntimeError):
        await lost_in_the_middle(store, found, tasks[1:2])
    return Half(database, operation.operation_id)


async def until_ended(half: Half) -> Any:
    async with asyncio.timeout(60):
        while True:
            found = await half.store.find(half.operation_id)
            assert found is not None
            if found.ended_at is not None:
                return found
            await asyncio.sleep(0.01)


@pytest.mark.parametrize("ago", ["1 minute", "-1 hour"], ids=["long-ago", "before-the-clock-was-set-back"])
async def test_another_broker_goes_on_where_a_lost_one_was(half: Half, seed: Seed, ago: str) -> None:
    assert await half.store.take_up(OTHER) is None  # nobody knows yet that the first one is lost
    await seed.execute(f"update bulk_operation set seen_at = now() - interval '{ago}'")
    async with half.other_broker():
        operation = await until_ended(half)
    assert (operation.matched, operation.done, operation.who) == (3, 3, "ops")
    assert await seed.execute("select count(*) from ready where run_number = 1") == 3
    assert await seed.execute("select count(*) from reopen") == 3
    assert len(half.recorded.followed) == 2


async def retried_by_the_first(store: BulkStore, operation: BulkOperation, tasks: list[TaskId]) -> None:
    async with store.step(operation, FIRST) as step:
        assert len(await step.store.retry(tasks)) == 2
        step.progress = Advance(None, 2, 2)


async def test_a_broker_that_was_taken_for_lost_changes_nothing_more(half: Half, seed: Seed) -> None:
    slow = await half.store.take_up(FIRST)
    assert slow is not None
    await seed.execute("update bulk_operation set seen_at = now() - interval '1 minute'")
    assert await half.store.take_up(OTHER) is not None
    left = await seed.rows(
        "select task_id from task_run r where not exists (select from reopen o where o.task_id = r.task_id)"
    )
    with pytest.raises(NotOursError):
        await retried_by_the_first(half.store, slow, [TaskId(str(row[0])) for row in left])
    assert await seed.execute("select count(*) from reopen") == 1


async def test_a_stopped_operation_goes_no_further(half: Half, stubs: Stubs, seed: Seed) -> None:
    request = messages.StopBulkOperationRequest(operation_id=half.operation_id)
    stopped = (await stubs.admin.StopBulkOperation(request)).operation
    assert (stopped.state, stopped.done, stopped.HasField("looked_back_to")) == (
        messages.BULK_STATE_STOPPED, 1, True
    )  # fmt: skip
    await seed.execute("update bulk_operation set seen_at = now() - interval '1 minute'")
    assert await half.store.take_up(OTHER) is None
    assert await seed.execute("select count(*) from ready") == 1


async def test_operations_are_listed_newest_first_page_by_page(stubs: Stubs, seed: Seed) -> None:
    wanted = TaskFilter(queues=["mail"], names=["send*"], labels={"a": "1"}, older_than=Duration(seconds=5))
    started = [await start(stubs, action=RETRY, filter=wanted, reason=str(n)) for n in range(3)]
    request = messages.ListBulkOperationsRequest(page_size=2)
    first = await stubs.admin.ListBulkOperations(request)
    request.page_token = first.next_page_token
    second = await stubs.admin.ListBulkOperations(request)
    found = [*first.operations, *second.operations]
    assert [each.operation_id for each in found] == [each.operation_id for each in reversed(started)]
    assert [each.reason for each in found] == ["2", "1", "0"]
    assert found[0].filter.older_than.seconds == 5
    assert (list(found[0].filter.names), dict(found[0].filter.labels)) == (["send*"], {"a": "1"})


@pytest.mark.parametrize(
    "wanted",
    [
        {"filter": MAIL},
        {"action": CANCEL},
        {"action": CANCEL, "filter": TaskFilter(statuses=[task_pb2.TASK_STATUS_FAILED])},
        {"action": RETRY, "filter": TaskFilter(statuses=[task_pb2.TASK_STATUS_QUEUED])},
        {"action": RETRY, "filter": MAIL, "reason": "x" * 1001},
        {"action": RETRY, "filter": MAIL, "operation_id": "mine"},
    ],
)
async def test_an_operation_that_means_nothing_is_refused(stubs: Stubs, wanted: dict[str, Any]) -> None:
    request = messages.StartBulkOperationRequest(**wanted)
    assert await reason_of(stubs.admin.StartBulkOperation(request)) == "INVALID_FIELD"


async def test_an_unknown_operation_is_not_found(stubs: Stubs) -> None:
    unknown = str(uuid.uuid4())
    found = stubs.admin.GetBulkOperation(messages.GetBulkOperationRequest(operation_id=unknown))
    stopped = stubs.admin.StopBulkOperation(messages.StopBulkOperationRequest(operation_id=unknown))
    assert await reason_of(found) == await reason_of(stopped) == "PEER_NOT_FOUND"
    odd = messages.ListBulkOperationsRequest(page_token="x")
    assert await reason_of(stubs.admin.ListBulkOperations(odd)) == "PAGE_TOKEN_INVALID"


async def test_operations_that_ended_long_ago_are_forgotten(
    stubs: Stubs, seed: Seed, database_url: str
) -> None:
    operations = [await start(stubs, action=RETRY, filter=MAIL) for _ in range(3)]
    for operation in operations:
        await ended(stubs, operation)
    old, young, running = (operation.operation_id for operation in operations)
    await seed.execute("update bulk_operation set ended_at = now() - interval '8 days' where id = $1", old)
    await seed.execute("update bulk_operation set ended_at = null where id = $1", running)
    await RetentionStore(database_url).maintain(timedelta(days=7))
    left = await seed.rows("select id from bulk_operation")
    assert {str(row[0]) for row in left} == {young, running}


async def test_dismissed_dead_letters_are_listed_as_failures_and_as_dead_no_more(
    stubs: Stubs, seed: Seed
) -> None:
    stubs.steering.bulk.portion = 2
    dead = await failed(seed, 5)
    await seed.run(await seed.task(queue="mail"))
    kept = await seed.run(await seed.task(queue="other"), 3, error="Timeout")
    # Reopened after an end that was not dismissed, and dismissed at the next one: its newest end counts.
    await seed.run(dead[0], 3, 1, error="Timeout")
    wanted: dict[str, Any] = {"action": messages.BULK_ACTION_DISMISS, "filter": MAIL}
    dry = await stubs.admin.StartBulkOperation(messages.StartBulkOperationRequest(dry_run=True, **wanted))
    assert (dry.count, dry.more) == (5, False)
    operation = await ended(stubs, await start(stubs, **wanted))
    assert (operation.action, operation.matched, operation.done) == (wanted["action"], 5, 5)
    request = ListTasksRequest(filter=TaskFilter(dead=True))
    assert ids_of((await stubs.tasks.ListTasks(request)).tasks) == [kept]
    request = ListTasksRequest(filter=TaskFilter(queues=["mail"], statuses=[task_pb2.TASK_STATUS_FAILED]))
    listed = (await stubs.tasks.ListTasks(request)).tasks
    assert (sorted(ids_of(listed)), {task.dismissed for task in listed}) == (sorted(dead), {True})
    again = await ended(stubs, await start(stubs, **wanted))
    assert again.matched == 0


async def test_only_what_ended_badly_can_be_dismissed(stubs: Stubs) -> None:
    completed = TaskFilter(statuses=[task_pb2.TASK_STATUS_COMPLETED])
    request = ListTasksRequest(
        filter=TaskFilter(dead=True, statuses=[task_pb2.TASK_STATUS_COMPLETED]), page_size=1
    )
    assert await reason_of(stubs.tasks.ListTasks(request)) == "INVALID_FIELD"
    call = stubs.admin.StartBulkOperation(
        messages.StartBulkOperationRequest(action=messages.BULK_ACTION_DISMISS, filter=completed)
    )
    assert await reason_of(call) == "INVALID_FIELD"


async def test_an_operation_that_says_what_a_later_version_may_mean_is_left_to_that_one(
    stubs: Stubs, seed: Seed, database: Database
) -> None:
    """Without that word more tasks would fit."""
    await seed.execute(
        "insert into bulk_operation (id, namespace, who, action, filter, reason, cursor)"
        " values ($1, 0, '', 'retry', $2, '', $1)",
        uuid.uuid4(),
        '{"moon": "full"}',
    )
    assert await BulkStore(database).take_up(OTHER) is None
    asked = TaskFilter.FromString(b"\xf0\x05\x01")  # field 94
    asked.MergeFrom(MAIL)
    wanted = messages.StartBulkOperationRequest(action=CANCEL, filter=asked)
    assert await reason_of(stubs.admin.StartBulkOperation(wanted)) == "INVALID_FIELD"
    assert await reason_of(stubs.tasks.ListTasks(ListTasksRequest(filter=asked))) == "INVALID_FIELD"
