"""Examines the standby for lists (`--read-database-url`) for `hyrex doctor`, as a broker would look at it."""

from typing import Final

from hyrex_broker.domain.errors import BrokerError
from hyrex_broker.storage import preflight
from hyrex_broker.storage.connect import DEFAULT_SCHEMA, place
from hyrex_broker.storage.examine import Examined
from hyrex_broker.storage.pool import Database
from hyrex_broker.storage.replica import LONGEST_LAG_S, Replica

_WITHIN_S: Final = 5.0
_REMEDY: Final = (
    "lists are read from the primary meanwhile; name a standby that runs and follows this primary"
    " (`select * from pg_stat_replication` there shows it), or leave --read-database-url out"
)


async def examine_replica(
    read_url: str, database_url: str, schema: str = DEFAULT_SCHEMA, within_s: float = _WITHIN_S
) -> Examined:
    """What was found: lists are read there if it answers, is a standby of this cluster, and close behind."""
    where = f"read replica {place(read_url)}"
    try:
        await preflight.check_replica(read_url, database_url)
        lag_s, why = await _tried(read_url, Database(database_url, schema=schema), within_s)
    except BrokerError as error:
        return Examined(where, "no broker uses it", error.message)
    if why or lag_s is None:
        return Examined(where, f"not used: {why}", _REMEDY)
    return Examined(where, f"a standby, {lag_s:.1f} s behind (it is used up to {LONGEST_LAG_S:g} s)")


async def _tried(read_url: str, primary: Database, within_s: float) -> tuple[float | None, str]:
    """How far it is behind, and why it cannot be used. Raises BrokerError if the primary cannot."""
    try:
        await primary.open()
        replica = Replica(read_url, primary, lambda: None)
        try:
            why = await replica.tried(within_s)
            return replica.lag_s, why
        finally:
            await replica.close()
    finally:
        await primary.close()
