"""Rule 36: a day past its term is compacted. What is kept takes its place, whatever fails meanwhile."""

from collections.abc import Iterator
from datetime import datetime
from typing import Any, Final

import pytest

from hyrex_broker.domain.model import Outcome
from hyrex_broker.storage import compaction
from hyrex_broker.storage.grants import grant
from hyrex_broker.storage.retention import RetentionStore
from hyrex_broker.storage.verify import verify
from tests.integration.storage.old_days import BAD, KEEP, OldDay, tables_of
from tests.integration.storage.stage import Stage, new_task
from tests.support.roles import role_of, role_with_few_rights

pytestmark = pytest.mark.own_database
_TABLES: Final = ("task", "task_run", "idempotency", "reopen", "dismissal")


@pytest.fixture(autouse=True)
def small_portions(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compaction, "PORTION", 3)
    monkeypatch.setattr(compaction, "_PAUSE_S", 0.01)


async def test_a_sleeper_and_bad_ends_keep_their_day_and_no_other_task(stage: Stage, connection: Any) -> None:
    day = await OldDay.of(
        stage, connection, "sleeps", "failed", "timed_out", "failed dismissed", "cancelled",
        *(f"completed {n}" for n in range(5)),
    )  # fmt: skip
    await connection.execute(
        "insert into dismissal select task_id, run_number, 'w' from task_run where task_id = any ($1)",
        [day.ids["failed dismissed"], day.ids["completed 1"]],
    )
    await day.retained()
    stays = {"sleeps", "failed", "timed_out", "failed dismissed"}
    assert await day.kept() == stays
    assert await day.named("select task_id::text from task_run") == stays - {"sleeps"}
    assert await day.named("select task_id::text from idempotency") == stays
    assert await day.named("select task_id::text from dismissal") == {"failed dismissed"}
    assert await day.is_whole()
    assert (await verify(stage.database.url, since=day.start)).findings == {}


async def test_bad_ends_go_when_their_own_term_is_over(stage: Stage, connection: Any) -> None:
    day = await OldDay.of(stage, connection, "sleeps", "failed", "completed")
    await day.retained()
    assert await day.kept() == {"sleeps", "failed"}
    await day.retained(bad_ends=KEEP)
    assert await day.kept() == {"sleeps"}
    await connection.execute("delete from delayed")
    await day.retained(bad_ends=KEEP)
    assert await tables_of(connection, day.start) == []
    for table in (*_TABLES, "compaction"):
        assert await connection.fetchval(f"select count(*) from {table}") == 0


async def test_a_reopened_end_is_no_end(stage: Stage, connection: Any) -> None:
    """What was retried and failed again is a bad end; what completed then is none."""
    day = await OldDay.of(stage, connection, "failed twice", "failed at first", "completed")
    for name, outcome in (("failed twice", Outcome.FAILED), ("failed at first", Outcome.COMPLETED)):
        await stage.cancels.retry([day.ids[name]])
        (run,) = await stage.assign(await stage.session())
        await stage.end(run, outcome)
    await day.retained()
    assert await day.kept() == {"failed twice"}
    assert await day.named("select task_id::text from reopen") == {"failed twice"}
    assert (await verify(stage.database.url, since=day.start)).findings == {}


async def test_the_tree_of_a_task_that_lives_is_kept(stage: Stage, connection: Any) -> None:
    """Its root and its siblings, be it in that day or in another."""
    day = await OldDay.of(stage, connection, "completed root", "completed")
    root = day.ids["completed root"]
    await day.add("completed child", parent_id=root, root_id=root)
    waiting = await day.add("sleeps")
    await day.add("completed child of it", parent_id=waiting, root_id=waiting)
    await stage.submit(new_task(parent_id=root, root_id=root))
    await day.retained(bad_ends=KEEP)
    assert await day.kept() == {"completed root", "completed child", "sleeps", "completed child of it"}


async def test_a_day_of_which_nearly_all_is_kept_is_not_copied(stage: Stage, connection: Any) -> None:
    day = await OldDay.of(stage, connection, *(f"sleeps {n}" for n in range(10)), "completed")
    await day.retained()
    assert len(await day.kept()) == 11


async def test_a_day_of_which_more_live_than_a_swap_compares_in_time_is_left(
    stage: Stage, connection: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    day = await OldDay.of(stage, connection, "sleeps", "sleeps too", "completed")
    monkeypatch.setattr(compaction, "_MOST_LIVING", 1)
    await day.retained()
    assert await day.kept() == {"sleeps", "sleeps too", "completed"}
    monkeypatch.setattr(compaction, "_MOST_LIVING", 2)
    await day.retained()
    assert await day.kept() == {"sleeps", "sleeps too"}


async def test_a_day_is_looked_at_once_a_day(stage: Stage, connection: Any) -> None:
    day = await OldDay.of(stage, connection, "sleeps", "completed")
    await day.retained()
    await day.add("completed later")
    store = RetentionStore(stage.database.url)
    await store.maintain(KEEP, BAD)
    assert await day.kept() == {"sleeps", "completed later"}
    await connection.execute("update compaction set looked_at = looked_at - interval '25 hours'")
    await store.maintain(KEEP, BAD)
    assert await day.kept() == {"sleeps"}


@pytest.fixture
def few_rights(storage_url: str) -> Iterator[str]:
    """URL of a role that may log in, and nothing else."""
    with role_with_few_rights(storage_url) as url:
        yield url


async def test_a_role_that_owns_nothing_compacts(stage: Stage, connection: Any, few_rights: str) -> None:
    day = await OldDay.of(stage, connection, "sleeps", "completed")
    await grant(connection, "hyrex", role_of(few_rights))
    await RetentionStore(few_rights).maintain(KEEP, BAD)
    assert await day.kept() == {"sleeps"}
    assert await day.is_whole()


async def test_a_compacted_day_has_the_indexes_and_checks_of_its_parent(
    stage: Stage, connection: Any
) -> None:
    day = await OldDay.of(stage, connection, "sleeps", "completed")
    before = await shape_of(connection, day.start)
    await day.retained()
    assert await day.kept() == {"sleeps"}
    assert await shape_of(connection, day.start) == before


async def shape_of(connection: Any, day: datetime) -> list[tuple[str, ...]]:
    """Columns, checks and attached indexes of a day's tables, names of indexes aside."""
    rows = await connection.fetch(
        "select c.relname, 'column', a.attname || a.attnotnull from pg_class c"
        " join pg_attribute a on attrelid = c.oid where c.relname ~ $1 and c.relkind = 'r' and attnum > 0"
        " union all select c.relname, 'check', pg_get_constraintdef(k.oid) from pg_class c"
        " join pg_constraint k on k.conrelid = c.oid where c.relname ~ $1"
        " union all select c.relname, 'index', p.relname from pg_class c"
        " join pg_index x on x.indrelid = c.oid join pg_inherits i on i.inhrelid = x.indexrelid"
        " join pg_class p"
        " on p.oid = i.inhparent where c.relname ~ $1"
        " union all select c.relname, 'bounds', pg_get_expr(c.relpartbound, c.oid) from pg_class c"
        " where c.relname ~ $1 and c.relkind = 'r' order by 1, 2, 3",
        f"^task(_run)?_{day:%Y%m%d}$",
    )
    return [tuple(row) for row in rows]
