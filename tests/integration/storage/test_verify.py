"""`hyrex verify` names each kind of damage, repairs what is safe, and finds nothing where work goes on."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import timedelta

import pytest

from hyrex_broker.domain.errors import SchemaOutOfRange
from hyrex_broker.domain.model import Outcome
from hyrex_broker.storage import repair
from hyrex_broker.storage.migrate import admit_others, exclude_others
from hyrex_broker.storage.statements import load
from hyrex_broker.storage.verify import IDS_TOLD, Discrepancy, Verified, _Walk, verify
from hyrex_broker.storage.verify_kinds import KINDS
from tests.integration.storage.damages import DAMAGES, ended, over_limit, over_rate, stranded, unswept
from tests.integration.storage.stage import ZERO, Stage, new_task
from tests.support.pages import read
from tests.support.postgres import connect

_LOCK = load("schema")


async def old_broker(stage: Stage) -> None:
    """Make the stage's broker one that has lived for a day and lives."""
    await stage.execute("update broker set started_at = now() - interval '1 day', seen_at = now()")


async def only(found: Verified) -> Discrepancy:
    (finding,) = found.findings.values()
    return finding


@pytest.mark.parametrize("kind", DAMAGES)
async def test_each_kind_of_damage_is_named_and_repaired_where_that_is_safe(
    kind: str, stage: Stage, storage_url: str
) -> None:
    await old_broker(stage)
    assert not (await verify(storage_url)).findings
    named = await DAMAGES[kind](stage)
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
    assert set(DAMAGES) | {"day_missing", "day_unknown"} == set(KINDS)
    for kind, words in KINDS.items():
        assert f"- `{kind}`{' (repaired)' if words.repairable else ''}: " in page
