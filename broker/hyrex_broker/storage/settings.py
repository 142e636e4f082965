"""The settings of a Postgres session on which the broker's rules rest: set by the broker, and read back.

A server, a database and a role may have preferences of their own (postgresql.conf, ALTER DATABASE SET,
ALTER ROLE SET): with `default_transaction_isolation = 'repeatable read'` a limit would let too many through
(rule 13), with a `lock_timeout` a whole batch would fail. None of them reaches a broker's session, except
those that are the operator's to choose: memory, logging, a stronger `synchronous_commit`, tablespaces, and
`default_transaction_read_only`, which a broker never overrules (operators fence a server with it).

The settings are made by a statement after connecting, not by startup parameters: PgBouncer refuses those.
"""

from collections.abc import Mapping
from datetime import timedelta
from typing import Any, Final

from hyrex_broker.domain.errors import StorageUnavailable

_HOT_TIMEOUT_MS: Final = 2500
LONGEST_STATEMENT: Final = timedelta(milliseconds=_HOT_TIMEOUT_MS + 500)
"""No statement of the hot connections commits later than that after it began. Low-water marks trail the clock
by as much (rule 11)."""
_SCANS: Final = (
    "bitmapscan", "hashagg", "hashjoin", "incremental_sort", "indexonlyscan", "indexscan", "material",
    "memoize", "mergejoin", "nestloop", "partition_pruning", "seqscan", "sort", "tidscan",
)  # fmt: skip

_COMMON: Final[dict[str, str]] = {
    # READ COMMITTED: a statement that waited sees what is committed by then (rules 3, 4, 8, 13).
    "default_transaction_isolation": "read committed",
    "default_transaction_deferrable": "off",
    "lock_timeout": "0",
    "idle_session_timeout": "0",
    # A policy that hides rows would make limits and sweeps count wrong: better an error (42501).
    "row_security": "off",
    # Columns of a batch are sent as text (columns.py), and statements rely on standard string syntax.
    "array_nulls": "on",
    "standard_conforming_strings": "on",
    "transform_null_equals": "off",
    "client_encoding": "UTF8",
    # That a commit may not be replicated is a warning (replication.py).
    "client_min_messages": "warning",
    "bytea_output": "hex",
    "DateStyle": "ISO, MDY",
    "IntervalStyle": "postgres",
    "TimeZone": "UTC",
    "extra_float_digits": "1",
    "constraint_exclusion": "partition",
    "jit": "off",
    "plan_cache_mode": "auto",
    **{f"enable_{name}": "on" for name in _SCANS},
}
HOT_SETTINGS: Final[dict[str, str]] = {
    **_COMMON,
    "application_name": "hyrex-broker",
    "plan_cache_mode": "force_generic_plan",
    "enable_seqscan": "off",
    "enable_hashjoin": "off",
    "enable_mergejoin": "off",
    "enable_bitmapscan": "off",
    "max_parallel_workers_per_gather": "0",
    "seq_page_cost": "1",
    "random_page_cost": "4",
    "cpu_tuple_cost": "0.01",
    "cpu_index_tuple_cost": "0.005",
    "cpu_operator_cost": "0.0025",
    "from_collapse_limit": "8",
    "join_collapse_limit": "8",
    "statement_timeout": f"{_HOT_TIMEOUT_MS}ms",
    "idle_in_transaction_session_timeout": f"{_HOT_TIMEOUT_MS}ms",
}
ONLY_PROBES: Final = ("enable_seqscan = off", "enable_bitmapscan = off")
"""For a transaction of bounded looks: statistics of live tables say anything, and only index probes keep a
count that stops at a cap cheap."""
READ_SETTINGS: Final[dict[str, str]] = {
    **_COMMON,
    "application_name": "hyrex-broker-reads",
    "statement_timeout": "5s",
    "idle_in_transaction_session_timeout": "5s",
}
CHANNEL_SETTINGS: Final[dict[str, str]] = {
    **_COMMON,
    "application_name": "hyrex-broker-words",
    "statement_timeout": "5s",
    "idle_in_transaction_session_timeout": "5s",
}
UPKEEP_SETTINGS: Final[dict[str, str]] = {
    **_COMMON,
    "application_name": "hyrex-broker-upkeep",
    # A migration has no time limit of its own; it limits its waits for locks itself.
    "statement_timeout": "0",
    "idle_in_transaction_session_timeout": "1min",
    "default_table_access_method": "heap",
}
_SINCE: Final[dict[str, tuple[str, int]]] = {"transaction_timeout": ("0", 17)}
"""Settings with the major version of Postgres that has them first."""
_DURABLE: Final = (
    "set_config('synchronous_commit', case current_setting('synchronous_commit')"
    " when 'off' then 'on' else current_setting('synchronous_commit') end, false)"
)
"""Only `off` is overruled: other values keep what is acknowledged, or keep it in more places (rule 9)."""


async def prepare(connection: Any, settings: Mapping[str, str], schema: str) -> None:
    """Make a new session the broker's own: set what the rules rest on, and read it back in a statement of
    its own. Raises StorageUnavailable where the session does not keep it."""
    wanted = _wanted(connection, settings, schema)
    made = ", ".join(f"set_config('{name}', '{value}', false)" for name, value in wanted.items())
    await connection.execute(f"select {_DURABLE}, {made}")
    kept = await connection.fetchval(f"select array[{', '.join(_read(name) for name in _kept(wanted))}]")
    for name, value in zip(_kept(wanted), kept, strict=True):
        if name in wanted and value != wanted[name]:
            raise StorageUnavailable(
                f"a session of Postgres has {name} = {value!r} although the broker set {wanted[name]!r};"
                " through PgBouncer it needs pool_mode = session"
            )
        if name == "synchronous_commit" and value == "off":
            raise StorageUnavailable("a session of Postgres does not keep synchronous_commit = on")


def _wanted(connection: Any, settings: Mapping[str, str], schema: str) -> dict[str, str]:
    major = connection.get_server_version().major
    later = {name: value for name, (value, since) in _SINCE.items() if major >= since}
    # Temporary tables come last, else one of them could hide a table of ours.
    return {**settings, **later, "search_path": f'"{schema}", pg_temp'}


def _kept(wanted: Mapping[str, str]) -> tuple[str, ...]:
    return (*wanted, "synchronous_commit")


def _read(name: str) -> str:
    return f"current_setting('{name}')"
