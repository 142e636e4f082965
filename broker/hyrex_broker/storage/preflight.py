"""A first look at the database: whether it lets this broker in, and how safe is what it acknowledges, in
words that say what to do."""

import logging
from typing import Final
from urllib.parse import urlsplit

import asyncpg

from hyrex_broker.domain.errors import StorageUnavailable

log = logging.getLogger(__name__)

_TIMEOUT_S: Final = 5.0
_REMEDY: Final = "set --database-url or HYREX_DATABASE_URL"
_DURABILITY: Final = """
select current_setting('synchronous_commit') as commits,
       current_setting('synchronous_standby_names') as standbys
"""


async def check(database_url: str) -> None:
    """Connect once, and say what a crash or a failover may cost. Raises StorageUnavailable, naming host
    and port, never the password."""
    try:
        commits, standbys = await _durability(database_url)
    except asyncpg.InvalidAuthorizationSpecificationError as error:
        raise StorageUnavailable(
            f"Postgres at {place(database_url)} refused the login: {error}; {_REMEDY}"
        ) from error
    except asyncpg.InvalidCatalogNameError as error:
        raise StorageUnavailable(
            f"Postgres at {place(database_url)}: {error}; create it, or {_REMEDY}"
        ) from error
    except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError, ValueError) as error:
        raise StorageUnavailable(
            f"cannot reach Postgres at {place(database_url)}: {_cause(error)}; start it, or {_REMEDY}"
        ) from error
    if commits == "off":
        log.warning("this server's synchronous_commit is off; the broker sets it on for its own sessions")
    if not standbys or commits == "local":
        log.info(
            "failover can lose acknowledged tasks unless replication is synchronous",
            extra={"synchronous_commit": commits, "synchronous_standby_names": standbys},
        )


async def _durability(database_url: str) -> tuple[str, str]:
    connection = await asyncpg.connect(database_url, timeout=_TIMEOUT_S)
    try:
        row = await connection.fetchrow(_DURABILITY, timeout=_TIMEOUT_S)
        assert row is not None
        return row["commits"], row["standbys"]
    finally:
        await connection.close(timeout=_TIMEOUT_S)


def place(database_url: str) -> str:
    """host:port of a URL."""
    try:
        parts = urlsplit(database_url)
        return f"{parts.hostname or 'localhost'}:{parts.port or 5432}"
    except ValueError:
        return "an invalid address"


def _cause(error: Exception) -> str:
    if isinstance(error, TimeoutError):
        return f"no answer within {_TIMEOUT_S:.0f} s"
    if isinstance(error, ConnectionRefusedError):
        return "connection refused"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return " ".join(str(error).split()) or type(error).__name__
