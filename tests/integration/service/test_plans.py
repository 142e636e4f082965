"""Statements that run often or over large tables are index probes, whatever the statistics say."""

import re

import pytest

from hyrex_broker.storage import listing
from hyrex_broker.storage.pool import HOT_SETTINGS
from hyrex_broker.storage.statements import load
from tests.integration.service.seeding import Seed

READS, QUEUES = load("reads"), load("queues")


async def plan(seed: Seed, statement: str, *arguments: str) -> str:
    """The generic plan of a statement."""
    await seed.execute(f"prepare looked_at as {statement}")
    rows = await seed.rows(f"explain (costs off) execute looked_at ({', '.join(arguments)})")
    await seed.execute("deallocate looked_at")
    return "\n".join(row[0] for row in rows)


@pytest.fixture
async def hot(seed: Seed) -> Seed:
    """A connection with the settings of the hot pool."""
    for name, value in HOT_SETTINGS.items():
        await seed.execute("select set_config($1, $2, false)", name, value)
    return seed


async def test_tasks_are_read_by_index_probes(hot: Seed) -> None:
    text = await plan(hot, READS["tasks"], "'{}'", "true", *6 * ("1",))
    assert "Seq Scan" not in text
    for index in ("ready_pkey", "delayed_pkey", "lease_pkey", "lane_pkey", "worker_session_pkey"):
        assert index in text


async def test_a_purge_goes_by_the_lane(hot: Seed) -> None:
    for statement, arguments, index in (
        ("places_to_purge", ("'{1}'", "now()"), "ready_by_turn"),
        ("purge_ready", ("'{1}'", "'{5}'", "array[now()]", "now()", "''", "1000"), "ready_by_turn"),
        ("purge_delayed", ("'{1}'", "array[gen_random_uuid()]", "now()", "''", "1000"), "delayed_by_lane"),
    ):
        text = await plan(hot, QUEUES[statement], *arguments)
        assert "Seq Scan" not in text
        assert index in text


async def test_what_is_in_a_queue_is_counted_by_index(seed: Seed) -> None:
    for setting in (
        "enable_seqscan = off",
        "enable_bitmapscan = off",
        "plan_cache_mode = force_generic_plan",
    ):
        await seed.execute(f"set {setting}")
    text = await plan(seed, QUEUES["queues"], "''", "null", "100", "10000")
    assert "Seq Scan" not in text
    for index in ("ready_by_turn", "delayed_by_lane", "lease_by_lane"):
        assert index in text


@pytest.mark.parametrize(
    ("name", "extra", "index"),
    [
        ("scan_task", (), "task_20"),
        ("scan_workflows", (), "_id_idx"),
        ("scan_ready", (), "ready_pkey"),
        ("scan_delayed", (), "delayed_pkey"),
        ("scan_lease", (), "lease_pkey"),
        ("scan_completed", (), "_pkey"),
        ("scan_bad_end", ("3", "null", "true"), "_outcome_task_id_idx"),
        ("scan_children", ("gen_random_uuid()",), "_parent_id_id_idx"),
        ("scan_tree", ("gen_random_uuid()",), "_root_id_id_idx"),
    ],
)
async def test_a_list_walks_its_index_backwards(
    seed: Seed, name: str, extra: tuple[str, ...], index: str
) -> None:
    # Empty tables are read in one go by any planner; full ones are not: ask as if they were full.
    await seed.execute("set enable_seqscan = off")
    await seed.execute("set enable_bitmapscan = off")
    bounds = ("'ffffffff-ffff-ffff-ffff-ffffffffffff'", "'00000000-0000-0000-0000-000000000000'")
    text = await plan(seed, READS[name], *bounds, "null", "200", "50", "null", *extra)
    looked = text.split("CTE looked")[1].split("InitPlan")[0]
    assert "Sort" not in looked
    assert "Backward" in looked
    assert index in looked


async def test_rare_labels_are_found_by_their_own_index(seed: Seed) -> None:
    lane = await seed.lane()
    await seed.execute(
        "insert into task (id, lane, rank, max_retries, digest, payload, labels)"
        " select (lpad(to_hex((extract(epoch from now()) * 1000)::bigint), 12, '0')"
        " || '7000800000' || lpad(to_hex(n), 10, '0'))::uuid, $1, 5, 0, 0, '',"
        " jsonb_build_object('tenant', n::text)"
        " from generate_series(1, 3000) n",
        lane,
    )
    await seed.execute("analyze task")
    for setting in listing.SETTINGS_BY_LABELS:
        await seed.execute(f"set {setting}")
    bounds = ("'ffffffff-ffff-ffff-ffff-ffffffffffff'", "'00000000-0000-0000-0000-000000000000'")
    labels = """'{"tenant": "7"}'"""
    text = await plan(seed, READS["scan_labelled"], *bounds, "null", "10001", "50", labels)
    assert "_labels_idx" in text
    assert "Seq Scan" not in text


@pytest.mark.parametrize(
    ("file", "name", "arguments", "indexes"),
    [
        ("cluster", "oldest", ("'{mail}'",), ("ready_by_turn",)),
        ("cluster", "strange_tasks", ("'{mail}'", "100"), ("ready_by_turn",)),
        ("cluster", "full_limits", ("null", "100"), ("ready_by_turn", "lease_by_lane")),
        ("cluster", "running", ("'{1,2}'", "20"), ("lease_by_session",)),
        ("reads", "holders", ("'queue'", "'mail'", "20"), ("lease_by_lane",)),
        ("bulk", "find", ("gen_random_uuid()",), ("bulk_operation_pkey",)),
        ("bulk", "page", ("now()", "gen_random_uuid()", "50"), ("bulk_operation_by_time",)),
        ("bulk", "take_up", ("1", "interval '10 seconds'", "array['queues']"), ("bulk_operation_pkey",)),
        ("stats", "points", ("''", "now()", "now()", "interval '10 seconds'", "true"), ("_queue_at_idx",)),
        (
            "stats",
            "distributions",
            ("''", "now()", "now()", "interval '10 seconds'", "true"),
            ("_queue_at_idx",),
        ),
        ("stats", "rates", ("1",), ("_at_idx",)),
    ],
)
async def test_what_operators_look_at_is_read_by_index(
    seed: Seed, file: str, name: str, arguments: tuple[str, ...], indexes: tuple[str, ...]
) -> None:
    for setting in (
        "enable_seqscan = off",
        "enable_bitmapscan = off",
        "plan_cache_mode = force_generic_plan",
    ):
        await seed.execute(f"set {setting}")
    text = await plan(seed, load(file)[name], *arguments)
    live = re.compile(r"Seq Scan on (ready|delayed|lease|task|task_run|stat|bulk)\w*")
    assert not live.search(text), text
    for index in indexes:
        assert index in text, text
