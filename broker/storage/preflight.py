"""A first look at the database: whether it lets this broker in, in words that say what to do."""

from typing import Final
from urllib.parse import urlsplit

import asyncpg

from broker.domain.errors import StorageUnavailable

_TIMEOUT_S: Final = 5.0
_REMEDY: Final = "set --database-url or HYREX_DATABASE_URL"


async def check(database_url: str) -> None:
    """Connect once. Raises StorageUnavailable, naming host and port, never the password."""
    try:
        connection = await asyncpg.connect(database_url, timeout=_TIMEOUT_S)
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
    await connection.close()


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
