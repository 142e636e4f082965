"""The rights of a broker's role: to read and write rows, and to call the owner's functions for partitions.

The role that migrates owns the schema and its tables; a broker needs none of that
(docs/operating/postgres.md).
"""

from typing import Any, Final

from hyrex_broker.domain.errors import SchemaOutOfRange

TABLES: Final = (
    "schema_version", "namespace", "broker", "lane", "queue", "concurrency_limit", "task_definition",
    "worker_session", "task", "task_run", "ready", "delayed", "lease", "reopen", "dismissal", "idempotency",
    "low_water_mark", "stat", "stat_5min", "bulk_operation", "token", "audit", "run_progress",
    "shared_secret",
    "schedule", "schedule_slot", "outbox", "expiry",
)  # fmt: skip
"""All of a schema's tables; partitions are reached through their parents. Named one by one, since others
may have tables in the schema too."""
VIEWS: Final = ("live",)
_GRANTS: Final = """
grant usage on schema {schema} to {role};
grant select, insert, update, delete on {tables} to {role};
grant select on {views} to {role};
grant execute on function make_partition(text, date), remove_partition(text, date) to {role};
"""


async def grant(connection: Any, schema: str, role: str) -> None:
    """Let a role run brokers in a schema. Raises SchemaOutOfRange for an unknown role."""
    quoted = await connection.fetchval("select quote_ident(rolname) from pg_roles where rolname = $1", role)
    if quoted is None:
        raise SchemaOutOfRange(f"no role {role!r} in this Postgres; make it with: create role ... login")
    async with connection.transaction():
        named = {"tables": ", ".join(TABLES), "views": ", ".join(VIEWS)}
        await connection.execute(_GRANTS.format(schema=f'"{schema}"', role=quoted, **named))
