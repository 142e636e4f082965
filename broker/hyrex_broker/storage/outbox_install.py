"""Makes the outbox in a database beside the broker's: its table and the functions that applications call, as
migrations/0001_first.sql has them for the broker's own, and nothing else.

Safe to repeat, and to call from several processes at once.
"""

import re
from dataclasses import dataclass
from importlib.resources import files
from typing import Any, Final

import asyncpg

from hyrex_broker.domain.errors import SchemaOutOfRange
from hyrex_broker.storage import grants
from hyrex_broker.storage.connect import DEFAULT_SCHEMA, Connector, Timeouts
from hyrex_broker.storage.migrate import MINIMUM_POSTGRES, admit_others, exclude_others
from hyrex_broker.storage.settings import UPKEEP_SETTINGS
from hyrex_broker.storage.sqlstates import translated
from hyrex_broker.storage.statements import load

VERSION: Final = 1
_SQL: Final = load("beside")
_PART: Final = re.compile(r"^-- The outbox begins\.$(.*)^-- The outbox ends\.$", re.MULTILINE | re.DOTALL)
_TIMEOUTS: Final = Timeouts(connect_s=10, command_s=60)
_VERSIONS: Final = """
create table if not exists outbox_version (
  number     integer primary key,
  applied_at timestamptz not null default now()
)
"""
_GRANTS: Final = """
grant usage on schema {schema} to {role};
grant select on {schema}.outbox_version to {role};
grant select, insert, update, delete on {schema}.outbox to {role};
"""


@dataclass(frozen=True, slots=True)
class OutboxGrants:
    """Who may do what with it. None: as it is."""

    broker: str | None = None
    enqueue: grants.EnqueueGrants | None = None


def outbox_sql() -> str:
    """What the outbox is made of."""
    text = files("hyrex_broker.storage").joinpath("migrations", "0001_first.sql").read_text()
    found = _PART.search(text)
    assert found is not None, "0001_first.sql does not say where the outbox begins and ends"
    return found[1]


async def install(url: str, schema: str = DEFAULT_SCHEMA, allowed: OutboxGrants | None = None) -> int:
    """Make the outbox, if it is not there, and give rights; its version. Raises StorageUnavailable, or
    SchemaOutOfRange for a database that is not for it."""
    with translated():
        connection = await Connector(url, schema).connect(UPKEEP_SETTINGS, _TIMEOUTS)
        try:
            await exclude_others(connection)
            try:
                async with connection.transaction():
                    await _make(connection, schema)
            finally:
                await admit_others(connection)
            await _allow(connection, schema, allowed or OutboxGrants())
        finally:
            await connection.close()
    return VERSION


async def _make(connection: Any, schema: str) -> None:
    await _require_fit(connection, schema)
    found = await connection.fetchrow(_SQL["installed"])
    if found["is_brokers"]:
        raise SchemaOutOfRange(
            f"schema {schema} of this database is one of brokers, which has an outbox; nothing was changed"
        )
    if found["is_outbox"]:
        await _require_known(connection)
        return
    if await connection.fetchval("select to_regclass('outbox') is not null"):
        raise SchemaOutOfRange(
            f"schema {schema} has a table outbox that is not Hyrex's; name another schema with --schema, here"
            " and for the brokers"
        )
    try:
        await connection.execute(f'create schema if not exists "{schema}"')
        await connection.execute(outbox_sql())
        await connection.execute(_VERSIONS)
        await connection.execute("insert into outbox_version (number) values ($1)", VERSION)
    except asyncpg.InsufficientPrivilegeError as error:
        raise SchemaOutOfRange(
            f"this role may not make schema {schema} ({error}); run it as a role that may, for instance the"
            " database's owner"
        ) from error


async def _require_fit(connection: Any, schema: str) -> None:
    version = int(await connection.fetchval("show server_version_num"))
    if version < MINIMUM_POSTGRES:
        raise SchemaOutOfRange(
            f"Postgres {version // 10000} is too old: an outbox needs Postgres 15 or newer"
        )
    encoding = await connection.fetchval("show server_encoding")
    if encoding != "UTF8":
        raise SchemaOutOfRange(
            f"the database has encoding {encoding}: names may have any character, so it must be UTF8"
        )


async def _require_known(connection: Any) -> None:
    number = await connection.fetchval("select max(number) from outbox_version")
    if number is None or number > VERSION:
        raise SchemaOutOfRange(
            f"its outbox has version {number}, and this program knows {VERSION}: upgrade it"
        )


async def _allow(connection: Any, schema: str, allowed: OutboxGrants) -> None:
    if allowed.broker is not None:
        role = await grants.quoted_role(connection, allowed.broker)
        await connection.execute(_GRANTS.format(schema=f'"{schema}"', role=role))
    if allowed.enqueue is not None:
        await grants.grant_enqueue(connection, schema, allowed.enqueue)
