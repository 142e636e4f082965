"""Examines a broker's database for `hyrex doctor`: what is right, and the remedy for what is not.

Nothing is changed, and no lock is taken that would delay a running broker.
"""

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

from hyrex_broker.domain.errors import BrokerError
from hyrex_broker.storage import preflight
from hyrex_broker.storage.beside import require_outbox
from hyrex_broker.storage.connect import DEFAULT_SCHEMA, Connector, Timeouts, place
from hyrex_broker.storage.migrate import migrations
from hyrex_broker.storage.settings import READ_SETTINGS
from hyrex_broker.storage.sqlstates import translated
from hyrex_broker.storage.statements import load

_SQL: Final = load("examine")
_TIMEOUTS: Final = Timeouts(connect_s=5, command_s=10)
_FEWEST_FREE: Final = 20  # what a broker opens, with room for a person
_LONGEST_OPEN_S: Final = 60


@dataclass(frozen=True, slots=True)
class Examined:
    """One thing that was looked at. `remedy` is empty where it is as it should be."""

    what: str
    found: str
    remedy: str = ""


async def examine(database_url: str, schema: str = DEFAULT_SCHEMA) -> list[Examined]:
    """All findings about a database; a database that no broker can use is the only one."""
    where = f"database {place(database_url)}"
    try:
        await preflight.check(database_url)
        with translated():
            connection = await Connector(database_url, schema).connect(READ_SETTINGS, _TIMEOUTS)
            try:
                return [finding async for finding in _examined(connection, where, schema)]
            finally:
                connection.terminate()
    except BrokerError as error:
        return [Examined(where, "no broker can use it", error.message)]


async def examine_outbox(outbox_url: str, schema: str = DEFAULT_SCHEMA) -> Examined:
    """What was found of an outbox in another database: whether brokers can take it, and whether one does."""
    where = f"outbox {place(outbox_url)}"
    try:
        await preflight.reach(outbox_url, "set --outbox-url or HYREX_OUTBOX_URL")
        with translated():
            connection = await Connector(outbox_url, schema).connect(READ_SETTINGS, _TIMEOUTS)
            try:
                await require_outbox(connection)
                row = await connection.fetchrow(_SQL["outbox"])
            finally:
                connection.terminate()
    except BrokerError as error:
        return Examined(where, "no broker can take it", error.message)
    waited_s = row["waited_s"] or 0.0
    remedy = "no broker takes it: start them all with this --outbox-url" if waited_s > _LONGEST_OPEN_S else ""
    return Examined(where, f"version {row['number']}; the next row has waited for {waited_s:.0f} s", remedy)


async def _examined(connection: Any, where: str, schema: str) -> AsyncIterator[Examined]:
    server = await connection.fetchrow(_SQL["server"])
    yield Examined(where, f"Postgres {server['version']}, answers, takes writes")
    yield _durability(server)
    yield _room(server)
    yield _open_transactions(server)
    found = await connection.fetchrow(_SQL["schema"], schema)
    if found["versions"] is None:
        yield Examined(f"schema {schema}", "there is none", f"`hyrex migrate --schema {schema}` makes it")
        return
    state = await connection.fetchrow(_SQL["state"])
    yield _version(schema, state["number"])
    missing = state["missing"]
    yield Examined(
        "partitions",
        f"missing for {', '.join(missing)}" if missing else "there for today and tomorrow",
        "start a broker, or run `hyrex migrate`" if missing else "",
    )
    yield _lanes(await connection.fetch(_SQL["lost_lanes"]))
    yield Examined("brokers", f"{state['brokers']} seen in the last 10 s")


def _lanes(lost: Sequence[Any]) -> Examined:
    if not lost:
        return Examined("lanes", "all that have ready tasks are stored")
    named = ", ".join(f"{row['lane']} (task {row['task_id']})" for row in lost)
    remedy = "a failover lost what these lanes stand for; insert the rows into table lane"
    return Examined("lanes", f"not stored although tasks are ready in them: {named}", remedy)


def _durability(server: Any) -> Examined:
    standbys = server["standbys"] or "none"
    text = f"synchronous_commit {server['commits']}, synchronous standbys: {standbys}"
    if server["fsync"] != "on":
        return Examined(
            "durability", f"{text}, fsync off", "set fsync = on: a crash loses what is acknowledged"
        )
    return Examined("durability", text)


def _room(server: Any) -> Examined:
    free = server["most"] - server["reserved"] - server["used"]
    remedy = (
        "raise max_connections, or put PgBouncer (pool_mode = session) between" if free < _FEWEST_FREE else ""
    )
    return Examined("connections", f"{free} of {server['most']} free", remedy)


def _open_transactions(server: Any) -> Examined:
    oldest_s = server["oldest_s"] or 0.0
    remedy = "end it (pg_stat_activity shows which): it keeps dead rows from vacuum"
    return Examined(
        "oldest transaction", f"{oldest_s:.0f} s old", remedy if oldest_s > _LONGEST_OPEN_S else ""
    )


def _version(schema: str, number: int) -> Examined:
    newest = migrations()[-1].number
    remedy = f"`hyrex migrate --schema {schema}` brings it up" if number < newest else ""
    return Examined(f"schema {schema}", f"version {number}; this Hyrex brings {newest}", remedy)
