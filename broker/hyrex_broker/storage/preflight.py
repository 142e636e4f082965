"""Checks the database before a broker starts: whether it can be used, and how safe its commits are. The error
texts say what to do."""

import logging
from typing import Any, Final

import asyncpg
from asyncpg.connect_utils import SessionAttribute

from hyrex_broker.domain.errors import SchemaOutOfRange, StorageUnavailable
from hyrex_broker.storage.beside import require_outbox
from hyrex_broker.storage.connect import ANY_SERVER, WRITES, Connector, Timeouts, place
from hyrex_broker.storage.replica import identity
from hyrex_broker.storage.settings import UPKEEP_SETTINGS
from hyrex_broker.storage.sqlstates import NOT_ANSWERED, one_line
from hyrex_broker.storage.unreachable import STANDBY

log = logging.getLogger(__name__)

_TIMEOUT_S: Final = 5.0
_ROUNDS: Final = 3
_REMEDY: Final = "set --database-url or HYREX_DATABASE_URL"
_DURABILITY: Final = """
select current_setting('synchronous_commit') as commits,
       current_setting('synchronous_standby_names') as standbys
"""


async def check(database_url: str, *, replicated: bool = True) -> None:
    """Connect, and say what a crash or a failover may cost; `replicated`: unless nobody expects a standby
    (a private Postgres for development). Raises StorageUnavailable or SchemaOutOfRange,
    naming host and port, never the password."""
    commits, standbys = await reach(database_url)
    if commits == "off":
        log.warning("this server's synchronous_commit is off; the broker sets it on for its own sessions")
    if replicated and (not standbys or commits == "local"):
        log.info(
            "failover can lose acknowledged tasks unless replication is synchronous",
            extra={"synchronous_commit": commits, "synchronous_standby_names": standbys},
        )


async def check_replica(read_url: str, database_url: str) -> None:
    """Raise SchemaOutOfRange if the database for reads is another one, or of another cluster.

    A server that cannot be reached, or takes writes just now, is only not used: a failover swaps the roles.
    """
    try:
        found, wanted = await _identity(read_url, ANY_SERVER), await _identity(database_url, WRITES)
    except (asyncpg.PostgresError, *NOT_ANSWERED, StorageUnavailable) as error:
        log.warning("the replica cannot be checked", extra={"error": _cause(error)})
        return
    if found[0] is not None and wanted[0] is not None and found[0] != wanted[0]:
        raise SchemaOutOfRange(
            f"--read-database-url: the server at {place(read_url)} is of another cluster (system identifier"
            f" {found[0]}) than the one at {place(database_url)} ({wanted[0]}); name a standby of the same"
            " primary, or leave it out"
        )
    if found[1] != wanted[1]:
        raise SchemaOutOfRange(
            f"--read-database-url names the database {found[1]}, and --database-url {wanted[1]}; a standby"
            " has the same databases: name the same"
        )


async def check_outbox(outbox_url: str, schema: str) -> None:
    """Raise SchemaOutOfRange if a database beside this one has no outbox for it. One that cannot be reached
    is taken up when it can: nothing else waits for it."""
    connector = Connector(outbox_url, schema)
    try:
        connection = await connector.connect(UPKEEP_SETTINGS, Timeouts(_TIMEOUT_S, _TIMEOUT_S))
    except (asyncpg.PostgresError, *NOT_ANSWERED, StorageUnavailable) as error:
        log.warning("the outbox beside the database cannot be checked", extra={"error": _cause(error)})
        return
    try:
        await require_outbox(connection)
    finally:
        connection.terminate()


async def _identity(url: str, role: SessionAttribute) -> tuple[int | None, str]:
    connector = Connector(url)
    connector.role = role
    connection = await _connected(connector)
    try:
        return await identity(connection)
    finally:
        connection.terminate()


async def reach(database_url: str, remedy: str = _REMEDY) -> tuple[str, str]:
    """Connect to a server that takes writes; its synchronous_commit and synchronous_standby_names. Raises
    StorageUnavailable or SchemaOutOfRange, naming host and port, never the password, and the remedy."""
    try:
        return await _looked_at(database_url)
    except asyncpg.InvalidAuthorizationSpecificationError as error:
        raise StorageUnavailable(
            f"Postgres at {place(database_url)} refused the login: {error}; {remedy}"
        ) from error
    except asyncpg.InvalidCatalogNameError as error:
        raise StorageUnavailable(
            f"Postgres at {place(database_url)}: {error}; create it, or {remedy}"
        ) from error
    except asyncpg.TargetServerAttributeNotMatched as error:
        raise StorageUnavailable(f"Postgres at {place(database_url)} {STANDBY}; {remedy}") from error
    except (asyncpg.PostgresError, *NOT_ANSWERED, ValueError) as error:
        raise StorageUnavailable(
            f"cannot reach Postgres at {place(database_url)}: {_cause(error)}; start it, or {remedy}"
        ) from error
    except StorageUnavailable as error:
        raise StorageUnavailable(
            f"{error.message}; start or promote one, or {remedy}", lasts=error.lasts
        ) from error


async def _looked_at(database_url: str) -> tuple[str, str]:
    connector = Connector(database_url)
    connections = [await _connected(connector) for _ in range(2)]
    try:
        await _require_sessions(*connections)
        row = await connections[0].fetchrow(_DURABILITY, timeout=_TIMEOUT_S)
        return row["commits"], row["standbys"]
    finally:
        for connection in connections:
            connection.terminate()


async def _connected(connector: Connector) -> Any:
    # Without settings nothing is prepared: behind some poolers no statement may be.
    return await connector.connect({}, Timeouts(_TIMEOUT_S, _TIMEOUT_S))


async def _require_sessions(one: Any, other: Any) -> None:
    """Raise SchemaOutOfRange where a connection is not a session of Postgres: a pooler that hands servers out
    by transaction loses settings, locks and LISTEN. Then two connections meet the same server."""
    pids: list[set[int]] = [set(), set()]
    for _ in range(_ROUNDS):
        for connection, met in zip((one, other), pids, strict=True):
            met.add(await connection.fetchval("select pg_backend_pid()", timeout=_TIMEOUT_S))
    if len(pids[0] | pids[1]) != 2 or pids[0] & pids[1]:
        raise SchemaOutOfRange(
            "the database is behind a pooler that hands servers out by transaction; Hyrex needs sessions:"
            " PgBouncer with pool_mode = session, or a direct connection"
        )


def _cause(error: Exception) -> str:
    if isinstance(error, TimeoutError):
        return f"no answer within {_TIMEOUT_S:.0f} s"
    if isinstance(error, ConnectionRefusedError):
        return "connection refused"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return one_line(error)
