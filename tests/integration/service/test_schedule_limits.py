"""What RPCs of schedules read, whom they let wait, and what becomes of a change that another overtakes."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from hyrex.v1 import admin_service_pb2, task_service_pb2
from hyrex.v1 import schedule_service_pb2 as pb
from hyrex_broker.storage.pool import Database
from hyrex_broker.storage.schedules import ScheduleStore
from tests.integration.service.seeding import Seed
from tests.integration.service.stubs import ROOT, Stubs, reason_of
from tests.integration.service.test_schedules import SCOPES, definition, put

NAMED = pb.PauseScheduleRequest(name="nightly")
MANY = 10_001


async def token_of(guarded: Stubs, queue: str) -> dict[str, Any]:
    """The metadata of a caller whose token is for one queue."""
    request = admin_service_pb2.CreateTokenRequest(name=queue, scopes=SCOPES, queue_patterns=[queue])
    made = await guarded.admin.CreateToken(request, metadata=(("authorization", f"Bearer {ROOT}"),))
    return {"metadata": (("authorization", f"Bearer {made.secret}"),)}


async def some_wait(seed: Seed, count: int) -> None:
    """Return when so many statements wait for locks."""
    async with asyncio.timeout(60):
        while (
            await seed.execute(
                "select count(*) from pg_stat_activity where wait_event_type = 'Lock'"
                " and datname = current_database()"
            )
            < count
        ):
            await asyncio.sleep(0.01)


@asynccontextmanager
async def held(url: str, sql: str) -> AsyncIterator[None]:
    """A transaction that has done this, until the block ends; then it is committed."""
    async with Seed.connected(url) as other:
        await other.execute("begin")
        try:
            await other.execute(sql)
            yield
        finally:
            await other.execute("commit")


async def test_a_list_reads_no_payloads(stubs: Stubs, database: Database) -> None:
    await put(stubs, task={"payload": b"large"})
    (found,), _ = await ScheduleStore(database).page("", 10, lambda _: True)
    assert not found.schedule.definition.payload


async def test_who_sees_few_schedules_gets_them_after_a_bounded_search(guarded: Stubs, seed: Seed) -> None:
    mail = await token_of(guarded, "mail")
    await guarded.schedules.PutSchedule(pb.PutScheduleRequest(definition=definition("zz")), **mail)
    await seed.execute(
        "insert into schedule (namespace, name, task, queue, cron, tz, payload, options, catchup, jitter_s,"
        " source, next_at, due_at) select 0, 's' || n, task, 'other', cron, tz, payload, options, catchup, 0,"
        " source, next_at, due_at from schedule, generate_series(1, $1::integer) n",
        MANY,
    )
    first = await guarded.schedules.ListSchedules(pb.ListSchedulesRequest(), **mail)
    assert not first.schedules
    second = await guarded.schedules.ListSchedules(
        pb.ListSchedulesRequest(page_token=first.next_page_token), **mail
    )
    assert [each.definition.name for each in second.schedules] == ["zz"]
    assert not second.next_page_token


async def test_lists_of_schedules_leave_connections_to_others(
    stubs: Stubs, seed: Seed, database_url: str
) -> None:
    """The broker has two for reads."""
    async with held(database_url, "lock table schedule in access exclusive mode"):
        lists = [
            asyncio.ensure_future(stubs.schedules.ListSchedules(pb.ListSchedulesRequest())) for _ in range(4)
        ]
        await some_wait(seed, 1)
        assert not (await stubs.tasks.ListTasks(task_service_pb2.ListTasksRequest())).tasks
    async with asyncio.timeout(60):
        await asyncio.gather(*lists, return_exceptions=True)


CHANGES: list[tuple[str, Callable[[], Any]]] = [
    ("PauseSchedule", lambda: NAMED),
    ("DeleteSchedule", lambda: pb.DeleteScheduleRequest(name="nightly")),
]


async def test_a_change_of_a_schedule_that_moves_meanwhile_is_refused_as_afterwards(
    guarded: Stubs, seed: Seed, database_url: str
) -> None:
    """Rule 39: the right was checked for the queue of before."""
    mail = await token_of(guarded, "mail")
    for name, request in CHANGES:
        await seed.execute("delete from schedule")
        await guarded.schedules.PutSchedule(pb.PutScheduleRequest(definition=definition()), **mail)
        moved = "update schedule set queue = 'billing', revision = revision + 1"
        async with held(database_url, moved):
            changing = asyncio.ensure_future(getattr(guarded.schedules, name)(request(), **mail))
            await some_wait(seed, 1)
        assert await reason_of(changing) == "PEER_NOT_FOUND", name
        assert await seed.execute("select count(*) from schedule where not paused") == 1, name


async def test_a_change_of_a_schedule_that_another_changes_meanwhile_is_made_all_the_same(
    stubs: Stubs, seed: Seed, database_url: str
) -> None:
    await put(stubs)
    async with held(database_url, "update schedule set jitter_s = 7, revision = revision + 1"):
        changing = asyncio.ensure_future(stubs.schedules.PauseSchedule(NAMED))
        await some_wait(seed, 1)
    assert (await changing).schedule.paused
    assert await seed.execute("select jitter_s from schedule") == 7


async def test_a_task_that_the_database_refuses_names_its_schedule(stubs: Stubs, seed: Seed) -> None:
    await put(stubs)
    await seed.execute("update schedule set options = jsonb_set(options, '{rank}', '77')")
    assert (
        await reason_of(stubs.schedules.TriggerSchedule(pb.TriggerScheduleRequest(name="nightly")))
        == "INVALID_FIELD"
    )
