"""bytes_per_task: table, index and write-ahead log per task, after many tasks and after a vacuum.

The tasks go through the bare SQL cycle: the broker writes the same rows. Table and index are those of
`task` and `task_run`, which stay; the live tables are given apart.
"""

from benchmarks.figures import Results
from benchmarks.sizes import Sizes
from benchmarks.stage import Stage

BATCH = 500
WITHIN_S = 3600.0
KEPT = "relname ~ '^task(_run)?_[0-9]+$'"
LIVE = "relname in ('ready', 'lease', 'delayed')"
SIZES = (
    "select coalesce(sum(pg_table_size(oid)), 0)::bigint, coalesce(sum(pg_indexes_size(oid)), 0)::bigint"
    " from pg_class where relkind = 'r' and "
)
WAL = "select pg_wal_lsn_diff(pg_current_wal_insert_lsn(), '0/0')::bigint"


def measure(stage: Stage, sizes: Sizes, results: Results) -> None:
    """Note bytes per task."""
    database = stage.database()
    cycler = stage.actor("sql_cycler", database, "3")
    cycler.ask(WITHIN_S, prepare=sizes.stored, batch=BATCH)
    empty = _sizes(stage, database, KEPT)
    before = _number(stage, database)
    cycler.ask(WITHIN_S, go=True)
    wal = _number(stage, database) - before
    full = _sizes(stage, database, KEPT)
    live = _sizes(stage, database, LIVE)
    stage.run_sql(database, "vacuum")
    vacuumed = _sizes(stage, database, KEPT)
    live_vacuumed = _sizes(stage, database, LIVE)
    count = sizes.stored
    results.add(
        bytes_per_task={
            "table": round((full[0] - empty[0]) / count, 1),
            "index": round((full[1] - empty[1]) / count, 1),
            "wal": round(wal / count, 1),
            "table_after_vacuum": round((vacuumed[0] - empty[0]) / count, 1),
            "index_after_vacuum": round((vacuumed[1] - empty[1]) / count, 1),
        },
        live_tables_mb={
            "before_vacuum": round(sum(live) / 1e6, 1),
            "after_vacuum": round(sum(live_vacuumed) / 1e6, 1),
        },
        stored_tasks=count,
    )


def _sizes(stage: Stage, database: str, which: str) -> tuple[int, int]:
    row = stage.run_sql(database, SIZES + which)[0][0]
    return row[0], row[1]


def _number(stage: Stage, database: str) -> int:
    return int(stage.run_sql(database, WAL)[0][0][0])
