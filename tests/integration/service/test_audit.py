"""What admins do, and who saw what tasks carry, is recorded."""

from datetime import UTC, datetime
from typing import Any

import pytest

from hyrex.v1 import admin_service_pb2 as admin_wire
from hyrex.v1 import queue_service_pb2, task_service_pb2
from hyrex_broker.engine.audit import MOST_NAMED
from hyrex_broker.service.pages import PageTokens
from hyrex_broker.storage.pool import Database
from hyrex_broker.storage.secrets import SecretStore
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


@pytest.mark.parametrize(
    ("wanted", "told"),
    [("ALL", ["Boom", "Boom", "Crash", "Crash"]), ("NONE", []), ("ONE_OF_A_KIND", ["Boom", "Crash"])],
)
async def test_a_list_tells_the_messages_that_it_is_asked_for_and_only_those_are_recorded(
    guarded: Stubs, seed: Seed, wanted: str, told: list[str]
) -> None:
    boss = await made(guarded.admin, ROOT, "boss", "read payload")
    for error in ("Boom", "Crash", "Boom", "Crash"):
        await seed.run(await seed.task(), 3, 0, error=error)
    request = task_service_pb2.ListTasksRequest(messages=f"LISTED_MESSAGES_{wanted}")  # type: ignore[arg-type]
    request.filter.error_types.extend(["Boom", "Crash"])
    listed = (await guarded.tasks.ListTasks(request, metadata=boss)).tasks
    errors = [task.runs[0].error for task in listed]
    assert sorted(error.type for error in errors) == ["Boom", "Boom", "Crash", "Crash"]
    assert sorted(error.message for error in errors if error.message) == told
    assert not any(task.hidden for task in listed)
    await guarded.audit.flush()
    counts = [row[0] for row in await seed.rows("select details ->> 'count' from audit where who = 'boss'")]
    assert counts == ([str(len(told))] if told else [])


async def test_a_list_of_unknown_messages_is_refused(stubs: Stubs) -> None:
    request = task_service_pb2.ListTasksRequest(messages=9)  # type: ignore[arg-type]
    assert await reason_of(stubs.tasks.ListTasks(request)) == "INVALID_FIELD"


async def test_a_purge_that_seems_to_go_on_is_recorded_as_well(
    guarded: Stubs, seed: Seed, database: Database
) -> None:
    """Whoever has got hold of an old step begins a purge with it."""
    boss = await made(guarded.admin, ROOT, "boss", "admin")
    await seed.ready(await seed.task(queue="mail"))
    pages = PageTokens(SecretStore(database))
    step = await pages.token(datetime.now(UTC).isoformat(), ["purge", "mail"])
    purge = queue_service_pb2.PurgeQueueRequest(name="mail", reason="hush", in_steps=True, step=step)
    assert (await guarded.queues.PurgeQueue(purge, metadata=boss)).cancelled == 1
    (entry,) = await seed.rows("select who, object from audit where action = 'queue.purge'")
    assert tuple(entry) == ("boss", "mail")
