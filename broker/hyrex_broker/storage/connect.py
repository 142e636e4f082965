"""Makes every connection of a broker: to a server that accepts writes, with the broker's own settings.

If a URL names several hosts, they are tried one by one. Only a server that accepts writes is used, whatever
`target_session_attrs` in the URL is (a standby answers, but refuses every write).
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Final
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

import asyncpg
from asyncpg.connect_utils import SessionAttribute

from hyrex_broker.config import DEFAULT_SCHEMA
from hyrex_broker.storage.replication import Session
from hyrex_broker.storage.settings import prepare

__all__ = ["DEFAULT_SCHEMA", "WRITES", "Timeouts", "connect", "create_pool", "place", "plain"]

WRITES: Final = SessionAttribute.read_write
_LIBPQ_ONLY: Final = frozenset(
    {
        "channel_binding", "connect_timeout", "fallback_application_name", "gssencmode", "keepalives",
        "keepalives_count", "keepalives_idle", "keepalives_interval", "load_balance_hosts", "pgbouncer",
        "requirepeer", "requiressl", "sslcompression", "sslsni", "tcp_user_timeout",
    }
)  # fmt: skip
"""Parameters of other clients: asyncpg would pass them to the server, which refuses them."""
_OURS: Final = frozenset({"search_path", "currentSchema"})


@dataclass(frozen=True, slots=True)
class Timeouts:
    """Seconds within which a connection must be made, and a statement answered."""

    connect_s: float
    command_s: float


async def connect(url: str, schema: str, settings: Mapping[str, str], timeouts: Timeouts) -> Any:
    """One connection with these settings. Raises what asyncpg raises, and StorageUnavailable."""
    connection = await asyncpg.connect(
        plain(url),
        timeout=timeouts.connect_s,
        command_timeout=timeouts.command_s,
        target_session_attrs=WRITES,
        connection_class=Session,
    )
    try:
        await prepare(connection, settings, schema)
    except BaseException:
        connection.terminate()
        raise
    return connection


async def create_pool(
    url: str, schema: str, settings: Mapping[str, str], timeouts: Timeouts, size: int
) -> Any:
    """A pool of up to `size` such connections, one of which is made now. Raises as `connect` does."""
    return await asyncpg.create_pool(
        plain(url),
        min_size=1,
        max_size=size,
        max_inactive_connection_lifetime=0,
        max_cached_statement_lifetime=0,
        command_timeout=timeouts.command_s,
        timeout=timeouts.connect_s,
        target_session_attrs=WRITES,
        connection_class=Session,
        init=partial(_init, settings=settings, schema=schema),
        reset=_as_it_is,
    )


async def _init(connection: Any, *, settings: Mapping[str, str], schema: str) -> None:
    await prepare(connection, settings, schema)


async def _as_it_is(connection: object) -> None:
    """Reset nothing when a connection returns to its pool: no statement here changes its session, and
    asyncpg's own reset would be a round trip for each statement."""


def plain(url: str) -> str:
    """The URL without parameters that only other clients understand, nor those that the schema replaces."""
    parts = urlsplit(url)
    if not parts.query:
        return url
    kept = [
        pair
        for pair in parse_qsl(parts.query, keep_blank_values=True)
        if pair[0] not in _LIBPQ_ONLY and pair[0] not in _OURS
    ]
    return urlunsplit(parts._replace(query=urlencode(kept)))


def place(url: str) -> str:
    """host:port of a URL, or several with commas; never its user or password."""
    try:
        parts = urlsplit(url)
        hosts = parts.netloc.rpartition("@")[2] or dict(parse_qsl(parts.query)).get("host", "localhost")
        shown = [host if re.search(r":\d+$", host) else f"{host}:5432" for host in hosts.split(",")]
    except ValueError:
        return "an invalid address"
    return ",".join(shown)
