"""What admins do, and who saw what tasks carry, is recorded."""

from datetime import UTC, datetime
from typing import Any

from hyrex.v1 import admin_service_pb2 as admin_wire
from hyrex.v1 import queue_service_pb2, task_service_pb2
from hyrex_broker.engine.audit import MOST_NAMED
from hyrex_broker.service import requests
from tests.integration.service.seeding import Seed
from tests.integration.service.stubs import ROOT, Stubs, reason_of
from tests.support.tokens import made


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
    assert entries[0].details["count"] == "2"
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
