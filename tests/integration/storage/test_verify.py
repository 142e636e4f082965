"""`hyrex verify` names each kind of damage, repairs what is safe, and finds nothing where work goes on."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import timedelta

import pytest

from hyrex_broker.domain.errors import SchemaOutOfRange
from hyrex_broker.domain.model import Outcome, TaskId
from hyrex_broker.storage import repair
from hyrex_broker.storage.migrate import admit_others, exclude_others
from hyrex_broker.storage.statements import load
from hyrex_broker.storage.verify import IDS_TOLD, Discrepancy, Verified, _Walk, verify
from hyrex_broker.storage.verify_kinds import KINDS
from tests.integration.storage.keys import end, keyed, submit_keyed, take
from tests.integration.storage.stage import ZERO, Stage, make_id, new_task
from tests.support.pages import read
from tests.support.postgres import connect

Damage = Callable[[Stage], Awaitable[object]]
"""Damages the database; returns the id that is to be named, unless none is."""
_LIVE = "(task_id, lane, rank, {}, run_number, attempt_number, redeliveries, releases, alone)"
_READY = (
    f"insert into ready {_LIVE.format('arrival')} select id, lane, rank, now(), 0, 0, 0, 0, false from task"
)
_DELAYED = (
    f"insert into delayed {_LIVE.format('run_at')}"
    " select id, lane, rank, now() + interval '1 hour', 0, 0, 0, 0, false from task"
)
_RUN = (
    "insert into task_run (task_id, run_number, attempt_number, outcome, final) values ($1, $2, 0, 3, true)"
)
_LOCK = load("schema")
_DAMAGES: dict[str, Damage] = {}


def damage(work: Damage) -> Damage:
    _DAMAGES[work.__name__] = work
    return work


@damage
async def two_ends(stage: Stage) -> TaskId:
    task_id = await ended(stage)
    await stage.execute(_RUN, task_id, 1)
    return task_id


@damage
async def live_after_end(stage: Stage) -> TaskId:
    task_id = await ended(stage)
    await stage.execute(_READY)
    return task_id


@damage
async def two_places(stage: Stage) -> TaskId:
    (task_id,) = await stage.submitted()
    await stage.execute(_DELAYED)
    return task_id


@damage
async def stranded(stage: Stage) -> TaskId:
    (task_id,) = await stage.submitted()
    await stage.execute("delete from ready")
    return task_id


@damage
async def run_taken(stage: Stage) -> TaskId:
    (task_id,) = await stage.submitted()
    await stage.execute(_RUN.replace("true", "false"), task_id, 0)
    return task_id


@damage
async def no_lane(stage: Stage) -> TaskId:
    (task_id,) = await stage.submitted()
    await stage.execute("delete from lane")
    return task_id


@damage
async def key_lost(stage: Stage) -> TaskId:
    (task_id,) = await stage.submitted(key="once")
    await stage.execute("delete from idempotency")
    return task_id


@damage
async def live_without_task(stage: Stage) -> TaskId:
    (task_id,) = await stage.submitted()
    await stage.execute("delete from task")
    return task_id


@damage
async def orphan_lease(stage: Stage) -> TaskId:
    opened, run = await stage.running()
    await stage.execute("update worker_session set ended_at = now() where id = $1", opened.session_id)
    return run.task_id


@damage
async def run_without_task(stage: Stage) -> TaskId:
    task_id = await ended(stage)
    await stage.execute("delete from task")
    return task_id


@damage
async def reopened_nothing(stage: Stage) -> TaskId:
    (task_id,) = await stage.submitted()
    await stage.execute("insert into reopen values ($1, 0)", task_id)
    return task_id


@damage
async def dismissed_nothing(stage: Stage) -> TaskId:
    (task_id,) = await stage.submitted()
    await stage.execute("insert into dismissal values ($1, 0, 'me')", task_id)
    return task_id


@damage
async def key_of_nothing(stage: Stage) -> TaskId:
    task_id = make_id()
    await stage.execute("insert into idempotency values (0, 'work', 'once', $1)", task_id)
    return task_id


@damage
async def unswept(stage: Stage) -> str:
    session_id = (await stage.session()).session_id
    await stage.expire(session_id, 3600)
    return str(session_id)


@damage
async def overdue(stage: Stage) -> TaskId:
    _, run = await stage.running(timeout_ms=1000)
    await stage.execute("update lease set deadline = now() - interval '1 hour'")
    return run.task_id


@damage
async def not_promoted(stage: Stage) -> TaskId:
    (task_id,) = await stage.submitted()
    await stage.execute("delete from ready")
    await stage.execute(_DELAYED.replace("+", "-"))
    return task_id


@damage
async def passed_over(stage: Stage) -> TaskId:
    (task_id,) = await stage.submitted()
    await stage.execute("update ready set arrival = now() - interval '1 hour'")
    await stage.execute(
        "insert into low_water_mark select lane, rank, now() - interval '1 minute' from ready"
    )
    await stage.submitted()
    opened, lane = await stage.session(), await stage.lane()
    plan = stage.plan(opened, lane, mark=(await stage.execute("select mark from low_water_mark")))
    assert len((await stage.assigns.assign(plan, stage.names)).blocks) == 1
    return task_id


@damage
async def bulk_left(stage: Stage) -> TaskId:
    operation = make_id()
    await stage.execute(
        "insert into bulk_operation (id, namespace, who, action, filter, reason, cursor, seen_at)"
        " values ($1, 0, 'me', 'retry', '{}', '', $1, now() - interval '1 hour')",
        operation,
    )
    return operation


@damage
async def slot_overdue(stage: Stage) -> str:
    await stage.execute(
        "insert into schedule (namespace, name, task, queue, cron, tz, payload, options, catchup, jitter_s,"
        " source, next_at, due_at) select 0, 'nightly', 'work', 'default', '@daily', 'UTC', '', '{}',"
        " 'latest', 0, 'code', at, at from (select now() - interval '1 hour' as at) hour"
    )
    return "nightly"


@damage
async def outbox_refused(stage: Stage) -> str:
    row = str(make_id())
    await stage.execute(
        "insert into outbox (id, task, payload, options, enqueued_at, held, reason)"
        " values ($1, 'work', '{}', '{}', now() - interval '1 hour', 'refused', 'a later option')",
        row,
    )
    return row


@damage
async def slot_lost(stage: Stage) -> str:
    task_id = make_id()
    await stage.execute(
        "insert into schedule_slot values (0, 'nightly', '2026-01-31 03:00Z', $1, 'due', now())", task_id
    )
    return f"nightly 2026-01-31T03:00:00Z: {task_id}"


@damage
async def over_limit(stage: Stage) -> str:
    await stage.submitted(2)
    await stage.assign(await stage.session(), 2)
    await stage.execute(
        "insert into concurrency_limit (namespace, scope, name, maximum, source, changed_at)"
        " values (0, 'task', 'work', 1, 'code', now() - interval '1 hour')"
    )
    await stage.execute("update lane set limited = true")
    return "task work: 2 run, 1 may"


@damage
async def seat_of_ended(stage: Stage) -> TaskId:
    holder = keyed()
    await submit_keyed(stage, holder)
    await end(stage, *await take(stage))
    await stage.execute("update seat set taken_at = now() - interval '1 hour'")
    await stage.execute("update task_run set finished_at = now() - interval '1 hour'")
    return holder.task_id


@damage
async def stuck_blocked(stage: Stage) -> TaskId:
    tasks = [keyed(), keyed(), keyed()]
    for task in tasks:
        await submit_keyed(stage, task)
    await end(stage, *await take(stage))
    await stage.execute("delete from seat")
    await stage.execute("update blocked set since = since - interval '1 hour'")
    return tasks[1].task_id


@damage
async def over_key(stage: Stage) -> str:
    tasks = [keyed(), keyed()]
    for task in tasks:
        await submit_keyed(stage, task)
    await stage.execute("insert into seat select task_id, key, 0, 0, 0, now() from blocked")
    await stage.execute(
        f"insert into ready {_LIVE.format('arrival')} select task_id, lane, rank, now(), 0, 0, 0, 0, false"
        " from blocked"
    )
    await stage.execute("delete from blocked")
    return "a of work in queue default: 2 run, 1 may"


@damage
async def over_rate(stage: Stage) -> str:
    await stage.submitted(4)
    await stage.assign(await stage.session(), 4)
    await stage.execute(
        "insert into concurrency_limit"
        " (namespace, scope, name, source, changed_at, rate_count, rate_period_ms, rate_burst)"
        " values (0, 'task', 'work', 'code', now() - interval '1 hour', 1, 3600000, 2)"
    )
    await stage.execute("update lane set limited = true")
    return "task work: 2 more than may"


@damage
async def limit_unheeded(stage: Stage) -> str:
    await stage.lane()
    await stage.execute("update lane set limited = true")
    return "work in queue default"


async def ended(stage: Stage) -> TaskId:
    _, run = await stage.running()
    await stage.end(run, Outcome.FAILED)
    return run.task_id


async def old_broker(stage: Stage) -> None:
    """Make the stage's broker one that has lived for a day and lives."""
    await stage.execute("update broker set started_at = now() - interval '1 day', seen_at = now()")


async def only(found: Verified) -> Discrepancy:
    (finding,) = found.findings.values()
    return finding


@pytest.mark.parametrize("kind", _DAMAGES)
async def test_each_kind_of_damage_is_named_and_repaired_where_that_is_safe(
    kind: str, stage: Stage, storage_url: str
) -> None:
    await old_broker(stage)
    assert not (await verify(storage_url)).findings
    named = await _DAMAGES[kind](stage)
    finding = (await verify(storage_url)).findings[kind]
    assert (finding.count, finding.ids) == (1, [named])
    repaired = (await verify(storage_url, repairs=True)).findings[kind].repaired
    assert repaired == KINDS[kind].repairable
    assert (kind in (await verify(storage_url)).findings) == (not KINDS[kind].repairable)


async def test_a_stranded_task_goes_on_with_its_next_attempt(stage: Stage, storage_url: str) -> None:
    _, run = await stage.running(max_retries=3, retry_delay_ms=60_000)
    await stage.end(run, Outcome.FAILED)
    await stage.execute("delete from delayed")
    await verify(storage_url, repairs=True)
    opened = await stage.session()
    (again,) = await stage.assign(opened)
    assert (again.task_id, again.run_number, again.attempt_number) == (run.task_id, 1, 1)


async def test_the_first_ids_are_told_and_all_are_counted(stage: Stage, storage_url: str) -> None:
    ids = sorted(await stage.submitted(25))
    await stage.execute("delete from ready")
    found = await verify(storage_url)
    assert found.tasks == 25
    finding = await only(found)
    assert (finding.count, finding.ids) == (25, ids[:IDS_TOLD])
    assert (await verify(storage_url, repairs=True)).findings["stranded"].repaired == 25


async def test_what_no_broker_could_do_is_no_finding(stage: Stage, storage_url: str) -> None:
    await unswept(stage)
    await stage.execute("update broker set seen_at = now() - interval '1 hour'")
    assert not (await verify(storage_url)).findings
    await stage.execute("update broker set seen_at = now(), started_at = now()")
    assert not (await verify(storage_url)).findings


async def test_a_limit_that_was_lowered_while_more_ran_is_no_finding(stage: Stage, storage_url: str) -> None:
    await over_limit(stage)
    await stage.execute("update concurrency_limit set changed_at = now()")
    assert not (await verify(storage_url)).findings


async def test_a_rate_that_was_kept_or_lowered_is_no_finding(stage: Stage, storage_url: str) -> None:
    await over_rate(stage)
    await stage.execute("update concurrency_limit set changed_at = now()")
    assert not (await verify(storage_url)).findings
    await stage.execute("update concurrency_limit set changed_at = now() - interval '1 day'")
    await stage.execute(
        "update lease set assigned_at = now() - n.place * interval '59 minutes'"
        " from (select task_id, row_number() over (order by task_id) as place from lease) n"
        " where n.task_id = lease.task_id"
    )
    assert not (await verify(storage_url)).findings


async def test_a_retried_task_is_no_finding_however_often(stage: Stage, storage_url: str) -> None:
    task_id = await ended(stage)
    for _ in range(2):
        await stage.cancels.retry([task_id])
        assert not (await verify(storage_url)).findings
        (run,) = await stage.assign(await stage.session())
        await stage.end(run, Outcome.FAILED)
        assert not (await verify(storage_url)).findings


async def test_partitions_that_are_missing_or_belong_to_nothing_are_named(
    database_url: str,
) -> None:
    async with Stage.on(database_url) as stage:
        name = await stage.execute("select 'task_run_' || to_char(now() at time zone 'UTC', 'YYYYMMDD')")
        await stage.execute(f"alter table task_run detach partition {name}")
        found = (await verify(database_url)).findings
        assert (found["day_missing"].ids, found["day_unknown"].ids) == ([name], [name])
        await stage.execute(f"drop table {name}")
        assert (await verify(database_url, repairs=True)).findings["day_missing"].repaired == 1
        assert not (await verify(database_url)).findings


async def test_a_day_whose_removal_is_under_way_is_no_finding(database_url: str) -> None:
    """Its runs go before its tasks, which then have neither an end nor a live row."""
    async with Stage.on(database_url) as stage:
        await ended(stage)
        name = await stage.execute("select 'task_run_' || to_char(now() at time zone 'UTC', 'YYYYMMDD')")
        await stage.execute(f"alter table task_run detach partition {name}")
        await stage.execute(f"drop table {name}")
        assert "stranded" not in (await verify(database_url, repairs=True)).findings


async def test_only_a_repair_itself_keeps_others_from_migrating(
    stage: Stage, storage_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A broker that starts while a long walk goes on need not wait for its end."""
    await stranded(stage)
    other = await connect(storage_url)
    await other.execute("set search_path = hyrex")
    free: dict[str, bool] = {}

    def noting(name: str, then: Callable[..., Awaitable[object]]) -> Callable[..., Awaitable[object]]:
        async def run(*given: object) -> object:
            free[name] = await other.fetchval(_LOCK["try_to_exclude_others"])
            if free[name]:
                await admit_others(other)
            return await then(*given)

        return run

    monkeypatch.setattr(_Walk, "_walk", noting("walk", _Walk._walk))
    monkeypatch.setattr(repair, "_WAYS", {"stranded": noting("repair", repair._WAYS["stranded"])})
    monkeypatch.setattr(_Walk, "_look_at_days", noting("after", _Walk._look_at_days))
    try:
        assert (await verify(storage_url, repairs=True)).findings["stranded"].repaired == 1
    finally:
        await other.close()
    assert free == {"walk": True, "repair": False, "after": True}


@pytest.mark.parametrize("meanwhile", ["a day was removed", "a later version has migrated"])
async def test_what_happened_while_a_repair_waited_is_looked_at_again(
    meanwhile: str, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with Stage.on(database_url) as stage:
        await stranded(stage)
        name = await stage.execute("select 'task_run_' || to_char(now() at time zone 'UTC', 'YYYYMMDD')")

        async def waited_for(connection: object) -> None:
            if meanwhile == "a day was removed":
                await stage.execute(f"alter table task_run detach partition {name}")
                await stage.execute(f"drop table {name}")
            else:
                await stage.execute("update schema_version set number = number + 1")
            await exclude_others(connection)

        monkeypatch.setattr(repair, "exclude_others", waited_for)
        if meanwhile == "a day was removed":
            monkeypatch.delitem(repair._WAYS, "day_missing")
            assert (await verify(database_url, repairs=True)).findings["stranded"].repaired == 0
        else:
            with pytest.raises(SchemaOutOfRange, match="verifies version"):
                await verify(database_url, repairs=True)
        assert not await stage.execute("select count(*) from ready")


async def test_a_database_without_a_hyrex_cannot_be_looked_at(empty_database_url: str) -> None:
    with pytest.raises(SchemaOutOfRange, match="no schema hyrex"):
        await verify(empty_database_url)


async def test_beside_every_move_of_tasks_nothing_is_found(stage: Stage, storage_url: str) -> None:
    """Tasks are sent, assigned, retried, cancelled, promoted and ended all the time while it looks."""
    await old_broker(stage)
    rounds = 0

    async def work() -> None:
        nonlocal rounds
        opened = await stage.session()
        while True:
            ids = await stage.submitted(20, max_retries=1, retry_delay_ms=1)
            await stage.submit(*(new_task(key=f"{rounds}-{n}") for n in range(5)))
            runs = await stage.assign(opened, 15)
            await stage.cancels.cancel(ids[:3], "")
            for outcome, part in ((Outcome.COMPLETED, runs[:5]), (Outcome.FAILED, runs[5:])):
                for run in part:
                    await stage.end(run, outcome)
            await stage.cancels.retry(ids)
            await stage.promotes.promote(ZERO, 100)
            rounds += 1

    working = asyncio.create_task(work())
    looks = 0
    try:
        while (rounds < 5 or looks < 10) and not working.done():
            assert not (await verify(storage_url, long=timedelta(minutes=2))).findings
            looks += 1
    finally:
        working.cancel()
        await asyncio.wait([working])
    assert working.cancelled(), working


def test_every_kind_is_damaged_here_and_on_the_page() -> None:
    page = read("docs/operating/verify.md")
    assert set(_DAMAGES) | {"day_missing", "day_unknown"} == set(KINDS)
    for kind, words in KINDS.items():
        assert f"- `{kind}`{' (repaired)' if words.repairable else ''}: " in page
