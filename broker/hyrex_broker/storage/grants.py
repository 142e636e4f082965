"""The rights of a broker's role: to read and write rows, and to call the owner's functions for partitions.

The role that migrates owns the schema and its tables; a broker needs none of that
(docs/operating/postgres.md).
"""

from dataclasses import dataclass
from typing import Any, Final

from hyrex_broker.domain.errors import SchemaOutOfRange

TABLES: Final = (
    "schema_version", "namespace", "broker", "lane", "queue", "concurrency_limit", "task_definition",
    "worker_session", "task", "task_run", "ready", "delayed", "lease", "reopen", "dismissal", "idempotency",
    "low_water_mark", "stat", "stat_5min", "bulk_operation", "token", "audit", "run_progress",
    "shared_secret", "compaction",
    "schedule", "schedule_slot", "outbox", "carried", "expiry", "debounce", "forgotten_slots",
    "rate_use", "blocked", "seat", "stripe", "used_feature",
)  # fmt: skip
"""All of a schema's tables; partitions are reached through their parents. Named one by one, since others
may have tables in the schema too."""
VIEWS: Final = ("live", "limit_rate", "holding")
SEQUENCES: Final = ("look",)
FUNCTIONS: Final = (
    "make_partition(text, date)", "remove_partition(text, date)",
    "survivors(date, uuid, integer, boolean, boolean, interval, uuid[])",
    "abandon_compactions()", "begin_compaction(date)",
    "copy_survivors(date, uuid, integer, boolean, boolean, interval, uuid[])",
    "swap_compacted(date)",
)  # fmt: skip
"""Those with their owner's rights."""
_GRANTS: Final = """
grant usage on schema {schema} to {role};
grant select, insert, update, delete on {tables} to {role};
grant select on {views} to {role};
grant usage on sequence {sequences} to {role};
grant execute on function {functions} to {role};
"""


_GIVE_AWAY: Final = """
grant usage, create on schema {schema} to {role};
grant insert (id, task, queue, payload, options, run_at) on {schema}.outbox to {role};
alter function {schema}.enqueue(text, jsonb, text, jsonb) security definer;
alter function {schema}.enqueue_bytes(text, bytea, text, jsonb, uuid) security definer;
alter function {schema}.enqueue(text, jsonb, text, jsonb) owner to {role};
alter function {schema}.enqueue_bytes(text, bytea, text, jsonb, uuid) owner to {role};
alter function {schema}.checked_enqueue_options(jsonb) owner to {role};
revoke create on schema {schema} from {role};
"""
"""Who owns a function must be allowed to create in its schema at that moment, and no longer."""
_ENQUEUE: Final = """
grant usage on schema {schema} to {role};
grant execute on function {schema}.enqueue(text, jsonb, text, jsonb),
  {schema}.enqueue_bytes(text, bytea, text, jsonb, uuid) to {role};
"""
_OWNED_APART: Final = """
select p.prosecdef from pg_proc p where p.oid = to_regprocedure($1 || '.enqueue(text, jsonb, text, jsonb)')
"""


@dataclass(frozen=True, slots=True)
class EnqueueGrants:
    """Whose rights `hyrex.enqueue` has, and who may call it (rule 41). None: as it is."""

    owner: str | None = None
    caller: str | None = None


async def grant_enqueue(connection: Any, schema: str, grants: EnqueueGrants) -> None:
    """Give the functions of the outbox to a role, and let another call them. Raises SchemaOutOfRange."""
    async with connection.transaction():
        if grants.owner is not None:
            role = await quoted_role(connection, grants.owner)
            await connection.execute(_GIVE_AWAY.format(schema=f'"{schema}"', role=role))
        if grants.caller is not None:
            if not await connection.fetchval(_OWNED_APART, f'"{schema}"'):
                raise SchemaOutOfRange(
                    f"hyrex.enqueue would run with the rights of {grants.caller}, who has none here: give it"
                    " to a role that may insert into the outbox only, with --enqueue-as ROLE"
                )
            role = await quoted_role(connection, grants.caller)
            await connection.execute(_ENQUEUE.format(schema=f'"{schema}"', role=role))


async def grant(connection: Any, schema: str, role: str) -> None:
    """Let a role run brokers in a schema. Raises SchemaOutOfRange for an unknown role."""
    quoted = await quoted_role(connection, role)
    async with connection.transaction():
        named = {
            "tables": ", ".join(TABLES),
            "views": ", ".join(VIEWS),
            "sequences": ", ".join(SEQUENCES),
            "functions": ", ".join(FUNCTIONS),
        }
        await connection.execute(_GRANTS.format(schema=f'"{schema}"', role=quoted, **named))


async def quoted_role(connection: Any, role: str) -> str:
    """A role's name as SQL has it. Raises SchemaOutOfRange for an unknown one."""
    quoted = await connection.fetchval("select quote_ident(rolname) from pg_roles where rolname = $1", role)
    if quoted is None:
        raise SchemaOutOfRange(f"no role {role!r} in this Postgres; make it with: create role ... login")
    return str(quoted)
