"""Hot statements keep their plans: never a scan of a live table, whatever its statistics say.

The statistics of a live table are as old as autovacuum's last look: they may say "empty" while it holds
a hundred thousand rows, or the reverse. Each statement is prepared as the hot connections prepare it.
"""

import json
import os
from collections.abc import Iterator
from typing import Any

import pytest

from hyrex_broker.storage.pool import HOT_SETTINGS
from hyrex_broker.storage.statements import load
from tests.integration.storage.conftest import execute
from tests.support.postgres import connect, copied_database, run_apart

LIVE = ("ready", "delayed", "lease", "task", "task_run", "idempotency", "worker_session", "outbox", "blocked")
HOT = [
    ("submit", "submit"),
    ("submit", "submit_again"),
    ("submit", "submit_waiting"),
    ("submit", "submit_handing_off"),
    ("submit", "submit_keyed"),
    ("submit", "submit_keyed_handing_off"),
    ("submit", "classify"),
    ("assign", "assign"),
    ("assign", "lanes_with_work"),
    ("assign", "below_marks"),
    ("assign", "work_above"),
    ("assign", "count_leases"),
    ("assign", "payloads"),
    ("report", "report"),
    ("report", "report_completed"),
    ("report", "classify_reports"),
    ("report", "leases_of"),
    ("report", "overdue"),
    ("sessions", "renew"),
    ("sessions", "cancels_of"),
    ("promote", "promote"),
    ("promote", "next_due"),
    ("promote", "due_below"),
    ("cancel", "cancel"),
    ("outside", "complete"),
    ("cancel", "standing"),
    ("cancel", "retry"),
    ("cancel", "reopened"),
    ("workflows", "standings"),
    ("depths", "ready"),
    ("depths", "delayed"),
    ("depths", "blocked"),
    ("outbox", "look"),
    ("outbox", "below"),
    ("outbox", "relay"),
    ("outbox", "relay_keyed"),
    ("outbox", "hold"),
    ("outbox", "full"),
    ("outbox", "refused"),
    ("outbox", "waiting"),
    ("outbox", "of_ids"),
    ("beside", "look"),
    ("beside", "sizes"),
    ("beside", "take"),
    ("beside", "carry"),
    ("beside", "carried"),
]
ROWS = 100_000


@pytest.fixture(scope="module")
def filled_url(postgres_url: str, template_database: str) -> Iterator[str]:
    """A database with 100,000 ready rows for all tests of this module; nothing is committed to it."""
    off = [f"alter table {table} set (autovacuum_enabled = off)" for table in ("ready", "delayed", "lease")]
    with copied_database(postgres_url, template_database, f"hyrex_plans_{os.getpid()}") as url:
        run_apart(execute(url, *off, "analyze", _fill("ready", "arrival", ROWS)))
        yield url


@pytest.fixture(scope="module")
def refilled_url(filled_url: str) -> str:
    """The same after an analyze when every live table was full; two of them are empty again."""
    run_apart(execute(
        filled_url,
        _fill("delayed", "run_at", ROWS // 5),
        _fill("lease", "assigned_at", ROWS // 5, ", token, session_id, sequence", ", n, n % 100, 1"),
        "analyze",
        "truncate delayed, lease",
    ))  # fmt: skip
    return filled_url


def _fill(table: str, moment: str, rows: int, more: str = "", values: str = "") -> str:
    return (
        f"insert into {table} (task_id, lane, rank, {moment}, run_number, attempt_number, redeliveries,"
        f" releases, alone{more}) select gen_random_uuid(), n % 20, n % 10, now(), 0, 0, 0, 0, false{values}"
        f" from generate_series(1, {rows}) n"
    )


def nodes(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield plan
    for child in plan.get("Plans", ()):
        yield from nodes(child)


def is_live(node: dict[str, Any]) -> bool:
    """Return True if a node reads a live table or a partition of one."""
    name = node.get("Relation Name", "")
    return name in LIVE or name.startswith(("task_2", "task_run_2"))


def faults(plan: dict[str, Any]) -> list[str]:
    """What may not be in a hot plan."""
    found = []
    first_row_only = [
        id(child) for node in nodes(plan) if node["Node Type"] == "Limit" for child in node["Plans"]
    ]
    for node in nodes(plan):
        kind = node["Node Type"]
        if kind in ("Seq Scan", "Bitmap Heap Scan") and is_live(node):
            found.append(f"{kind} of {node['Relation Name']}")
        if kind in ("Index Scan", "Index Only Scan") and is_live(node) and "Index Cond" not in node:
            if id(node) in first_row_only:
                continue
            found.append(f"whole index {node['Index Name']}")
        if kind in ("Sort", "Incremental Sort") and sorts_live_rows(node):
            found.append(f"{kind} by {node['Sort Key']} over a live table")
        if kind in ("Hash Join", "Merge Join") and any(map(is_live, nodes(node))):
            found.append(f"{kind} with a live table")
    return found


def sorts_live_rows(sort: dict[str, Any]) -> bool:
    """A sort of rows straight from a live table, unless they were looked up by a list of ids."""
    (child,) = (child for child in sort["Plans"] if child["Parent Relationship"] == "Outer")
    return is_live(child) and "ANY" not in child.get("Index Cond", "")


# In this order: the second fixture changes the statistics of the first one's database.
@pytest.fixture(params=["filled_url", "refilled_url"])
def stale_url(request: pytest.FixtureRequest) -> str:
    url: str = request.getfixturevalue(request.param)
    return url


async def test_hot_statements_read_live_tables_by_index_only(stale_url: str) -> None:
    """Prepared and planned as on the hot connections, with statistics that say empty, then full."""
    connection = await connect(stale_url, server_settings=HOT_SETTINGS)
    try:
        found = {f"{aggregate}.{name}": faults(await _plan(connection, load(aggregate)[name]))
                 for aggregate, name in HOT}  # fmt: skip
    finally:
        await connection.close()
    wrong = [f"{name}: {fault}" for name, faults_of in found.items() for fault in faults_of]
    assert not wrong, "\n".join(wrong)


BY_ID = [
    ("assign", "assign"),
    ("assign", "payloads"),
    ("report", "report"),
    ("report", "classify_reports"),
    ("cancel", "standing"),
    ("cancel", "retry"),
    ("cancel", "reopened"),
    ("reads", "tasks"),
]


@pytest.mark.parametrize(("aggregate", "name"), BY_ID)
async def test_lookups_by_id_prepare_for_no_partition_but_those_of_the_ids(
    filled_url: str, aggregate: str, name: str
) -> None:
    """To prepare for each of a thousand partitions takes 20 ms a statement."""
    connection = await connect(filled_url, server_settings=HOT_SETTINGS)
    try:
        plan = await _plan(connection, load(aggregate)[name])
    finally:
        await connection.close()
    removed = [node["Subplans Removed"] for node in nodes(plan) if "Subplans Removed" in node]
    assert removed
    left = [node["Relation Name"] for node in nodes(plan) if is_partition(node)]
    assert not left, f"prepared for {left} although no id was given"


async def test_a_renewal_looks_for_each_session_once(filled_url: str) -> None:
    """Not once more to change it, nor for each of the others: a thousand took 0.4 s instead of 0.08."""
    connection = await connect(filled_url, server_settings=HOT_SETTINGS)
    try:
        plan = await _plan(connection, load("sessions")["renew"])
    finally:
        await connection.close()
    reads = [node["Node Type"] for node in nodes(plan) if node.get("Relation Name") == "worker_session"]
    assert sorted(reads) == ["Index Scan", "ModifyTable", "Tid Scan"]


def is_partition(node: dict[str, Any]) -> bool:
    """Return True if a node reads a partition."""
    return str(node.get("Relation Name", "")).startswith(("task_2", "task_run_2"))


async def _plan(connection: Any, sql: str) -> dict[str, Any]:
    count = len((await connection.prepare(sql)).get_parameters())
    await connection.execute(f"prepare hot_statement as {sql}")
    arguments = f"({', '.join(['null'] * count)})" if count else ""
    told = await connection.fetchval(f"explain (format json) execute hot_statement{arguments}")
    await connection.execute("deallocate hot_statement")
    plan: dict[str, Any] = json.loads(told)[0]["Plan"]
    return plan


@pytest.mark.parametrize("name", ["report_completed", "report", "classify_reports"])
async def test_reports_find_each_lease_by_its_task_in_an_empty_database_too(
    storage_url: str, name: str
) -> None:
    """There all indexes cost the same: one by session would be read as a whole for each run."""
    connection = await connect(storage_url, server_settings=HOT_SETTINGS)
    try:
        await connection.execute("truncate lease")
        await connection.execute("vacuum (analyze) lease")
        plan = await _plan(connection, load("report")[name])
    finally:
        await connection.close()
    found = {
        node["Index Name"]
        for node in nodes(plan)
        if node.get("Relation Name") == "lease" and "Index Name" in node
    }
    assert found == {"lease_pkey"}
