"""Whoever knows a row's key reads that row, whatever the statistics say: no index by something else is read
as a whole, of which the key is only a later column.

The planner does that where statistics say "empty" and the primary key's tree is higher than the other
index: so it is after an ANALYZE at the moment at which nothing waits. A task asked for by its id was read
through all that waited. So the other indexes are for statements that ask for their first column: partial,
where it is not null.
"""

import os
import re
from collections.abc import Iterator, Mapping
from importlib.resources import files
from typing import Any

import pytest

from hyrex_broker.storage.pool import HOT_SETTINGS, READ_SETTINGS
from hyrex_broker.storage.statements import load
from tests.integration.storage.conftest import execute
from tests.integration.storage.test_plans import _fill, _plan, nodes
from tests.support.postgres import connect, copied_database, run_apart

ROWS = 20_000
LIVE = ("ready", "delayed", "lease", "blocked")
OTHERS = ("carried", "audit", "bulk_operation")
READS = ("reads", "cluster", "queues", "bulk", "schedules", "depths", "examine")
NOT_BY_BROKERS = ("schema", "partitions", "verify")
NOT_PLANNED = ("-- Nobody uses a feature",)
FIRST_COLUMNS = """
    select c.relname, pg_get_indexdef(i.indexrelid, 1, true) from pg_index i
    join pg_class c on c.oid = i.indexrelid where c.relnamespace = 'hyrex'::regnamespace
"""
OTHER_INDEXES = """
    select c.relname from pg_index i join pg_class c on c.oid = i.indexrelid
    join pg_class t on t.oid = i.indrelid
    where t.relnamespace = 'hyrex'::regnamespace and not i.indisprimary and t.relname = any ($1)
"""


@pytest.fixture(scope="module")
def deceptive_url(postgres_url: str, template_database: str) -> Iterator[str]:
    """A database whose statistics say "empty", where every index but the primary keys is as low as can be."""
    lease = (", token, session_id, sequence", ", n, n % 100, 1")
    filled = [
        _fill("ready", "arrival", ROWS), _fill("delayed", "run_at", ROWS),
        _fill("lease", "assigned_at", ROWS, *lease), _fill("blocked", "since", ROWS),
        f"insert into carried (id) select gen_random_uuid() from generate_series(1, {ROWS})",
        "insert into audit (who, action, object, details)"
        f" select n::text, '', '', '{{}}' from generate_series(1, {ROWS}) n",
    ]  # fmt: skip
    off = [f"alter table {table} set (autovacuum_enabled = off)" for table in (*LIVE, *OTHERS)]
    gone = [f"delete from {table}" for table in (*LIVE, *OTHERS)]
    with copied_database(postgres_url, template_database, f"hyrex_lookups_{os.getpid()}") as url:
        run_apart(execute(url, *off, *filled, *gone, "analyze"))
        run_apart(_rebuild_others(url))
        yield url


async def _rebuild_others(url: str) -> None:
    connection = await connect(url)
    try:
        for row in await connection.fetch(OTHER_INDEXES, [*LIVE, *OTHERS]):
            await connection.execute(f"reindex index {row[0]}")
    finally:
        await connection.close()


def whole_indexes(plan: dict[str, Any], firsts: Mapping[str, str]) -> list[str]:
    """Indexes that are read by a later column only."""
    return [
        f"{node['Index Name']} by {node['Index Cond']}"
        for node in nodes(plan)
        if "Index Cond" in node and node.get("Relation Name") in (*LIVE, *OTHERS)
        if not _names(node["Index Cond"], firsts[node["Index Name"]])
    ]


def _names(condition: str, column: str) -> bool:
    return re.search(rf"(?<!\w){re.escape(column)}(?!\w)", condition, re.IGNORECASE) is not None


@pytest.mark.parametrize("settings", [HOT_SETTINGS, READ_SETTINGS], ids=["hot", "read"])
async def test_no_statement_reads_a_whole_index_for_a_key(
    deceptive_url: str, settings: dict[str, str]
) -> None:
    wrong, planned = [], 0
    connection = await connect(deceptive_url, server_settings=settings)
    try:
        firsts = {row[0]: row[1] for row in await connection.fetch(FIRST_COLUMNS)}
        for aggregate in aggregates():
            if settings is READ_SETTINGS and aggregate not in READS:
                continue
            for name, sql in load(aggregate).items():
                if sql.startswith(NOT_PLANNED) or "outbox_version" in sql:  # this is for the database beside
                    continue
                plan = await _plan(connection, sql)
                planned += 1
                wrong += [f"{aggregate}.{name}: {each}" for each in whole_indexes(plan, firsts)]
    finally:
        await connection.close()
    assert not wrong, "\n".join(wrong)
    assert planned > (30 if settings is READ_SETTINGS else 200)


def aggregates() -> list[str]:
    """The files of statements that a broker plans as it runs."""
    folder = files("hyrex_broker.storage").joinpath("sql")
    return sorted({each.name.removesuffix(".sql") for each in folder.iterdir()} - set(NOT_BY_BROKERS))
