"""A broker is killed in the middle of a bulk operation: another goes on, and each task is acted on once."""

import asyncio
from typing import Any

from hyrex.cli.connection import ask
from hyrex.v1 import admin_service_pb2 as messages
from hyrex.v1 import admin_service_pb2_grpc
from hyrex.v1.task_service_pb2 import TaskFilter
from tests.faults.field import Field
from tests.integration.service.seeding import Seed
from tests.support.eventually import eventually
from tests.support.postgres import connect

TASKS = 2500
SEEDED = """
insert into task (id, lane, rank, max_retries, digest, payload)
select (lpad(to_hex((extract(epoch from now()) * 1000)::bigint), 12, '0') || '70008000000000'
        || lpad(to_hex(n), 6, '0'))::uuid, $1, 5, 0, 0, ''
from generate_series(1, $2::integer) n
"""


async def seed(url: str) -> None:
    async with Seed.connected(url) as seeded:
        await seeded.execute(SEEDED, await seeded.lane("mail", "send"), TASKS)
        await seeded.execute(
            "insert into task_run (task_id, run_number, attempt_number, outcome, final)"
            " select id, 0, 0, 3, true from task"
        )


async def value(url: str, sql: str) -> Any:
    async with Seed.connected(url) as seeded:
        return await seeded.execute(sql)


def call(url: str, name: str, request: Any) -> Any:
    return ask(url, lambda channel: getattr(admin_service_pb2_grpc.AdminServiceStub(channel), name)(request))


def test_a_bulk_retry_survives_its_broker(field: Field) -> None:
    asyncio.run(seed(field.database_url))
    first = field.broker()
    with asyncio.Runner() as runner:
        # Somebody else's transaction reopens the oldest task: the broker waits for it in its last portion.
        connection = runner.run(connect(field.database_url))
        runner.run(connection.execute("begin"))
        runner.run(connection.execute("insert into reopen select id, 0 from task order by id limit 1"))
        request = messages.StartBulkOperationRequest(
            action=messages.BULK_ACTION_RETRY, filter=TaskFilter(queues=["mail"])
        )
        operation_id = call(first.url, "StartBulkOperation", request).operation.operation_id
        asked = messages.GetBulkOperationRequest(operation_id=operation_id)
        eventually(lambda: call(first.url, "GetBulkOperation", asked).operation.done >= 1000)
        first.process.kill()
        runner.run(connection.execute("rollback"))
        runner.run(connection.close())
    taken = "update bulk_operation set seen_at = now() - interval '1 minute' returning done"
    before = asyncio.run(value(field.database_url, taken))
    assert 1000 <= before < TASKS
    second = field.broker()
    ended = eventually(lambda: _ended(call(second.url, "GetBulkOperation", asked).operation))
    assert ended is not None
    assert (ended.state, ended.matched, ended.done) == (messages.BULK_STATE_DONE, TASKS, TASKS)
    once = (
        "select count(*) from ready join reopen using (task_id) where run_number = 1 and after_run_number = 0"
    )
    assert asyncio.run(value(field.database_url, once)) == TASKS
    assert asyncio.run(value(field.database_url, "select count(*) from reopen")) == TASKS


def _ended(operation: messages.BulkOperation) -> messages.BulkOperation | None:
    return operation if operation.HasField("ended_at") else None
