"""The outbox of a database beside the broker's: two connections to it, made when they are needed.

To carry a row is a transaction there, within which the statement here is committed: `taking` removes rows
when its block ends without an error. Whatever is lost between the two commits, the row is there still, and is
carried again: the table `carried` here knows that it has come (docs/adr/0024-outbox-beside.md).
"""

import asyncio
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

import asyncpg

from hyrex_broker.domain.counters import Counters
from hyrex_broker.domain.errors import SchemaOutOfRange, StorageUnavailable
from hyrex_broker.domain.model import TaskId
from hyrex_broker.domain.outbox import CommitSnapshot, Cursor, Position, SeenRows
from hyrex_broker.storage.columns import integers
from hyrex_broker.storage.connect import Connector, Timeouts, place
from hyrex_broker.storage.connections import Connections
from hyrex_broker.storage.pool import Database
from hyrex_broker.storage.settings import HOT_SETTINGS
from hyrex_broker.storage.sqlstates import NOT_ANSWERED, StatementRefused, translated
from hyrex_broker.storage.statements import NAMES, load

_SQL: Final = load("beside")
_OUTBOX: Final = load("outbox")
_CONNECTIONS: Final = 2
_TIMEOUTS: Final = Timeouts(connect_s=5.0, command_s=6.0)
_SETTINGS: Final = {**HOT_SETTINGS, "application_name": "hyrex-broker-outbox"}


@dataclass(frozen=True, slots=True)
class RowBeside:
    """A row of the other database, without what it carries."""

    row_id: TaskId
    place: Position
    is_late: bool
    """Its transaction was in progress at the last look."""
    size_bytes: int


@dataclass(frozen=True, slots=True)
class CarriedRow:
    """A row with all that it carries."""

    row_id: TaskId
    task: str
    queue: str | None
    payload: bytes
    options: str
    run_at: datetime | None
    enqueued_at: datetime


async def require_outbox(connection: Any) -> None:
    """A check of connections. Raises SchemaOutOfRange where there is no outbox for this, or where brokers
    have their own."""
    row = await connection.fetchrow(_SQL["installed"])
    if row["is_brokers"]:
        raise SchemaOutOfRange(
            "HYREX_OUTBOX_URL names a database of brokers, whose own outbox needs no such setting: leave it"
            " out"
        )
    if not row["is_outbox"]:
        raise SchemaOutOfRange(
            "the database of HYREX_OUTBOX_URL has no outbox yet: run `hyrex outbox install --outbox-url URL`"
        )


@contextmanager
def _unavailable(place_of_it: str) -> Iterator[None]:
    """Raise StorageUnavailable for whatever is wrong with that database: it is somebody else's, and no reason
    for a broker to end."""
    try:
        with translated():
            yield
    except (asyncpg.PostgresError, *NOT_ANSWERED, SchemaOutOfRange) as error:
        raise StorageUnavailable(f"the outbox of {place_of_it}: {error}") from error


class OutboxBeside:
    """Statements for the other database. Each raises StorageUnavailable."""

    def __init__(self, url: str, schema: str, counters: Counters) -> None:
        self.place = place(url)
        self._connector = Connector(url, schema)
        self._connector.checks.append(require_outbox)
        self._counters = counters
        self._pool: Connections | None = None
        self._opening = asyncio.Lock()

    async def close(self) -> None:
        """End its connections."""
        self._connector.close()
        if self._pool is not None:
            self._pool.terminate()

    async def here(self) -> CommitSnapshot:
        """The snapshot of this moment."""
        rows = await self.fetch(_OUTBOX["here"])
        return CommitSnapshot.read(rows[0]["snapshot"])

    async def below(self, xid: int) -> int | None:
        """The first transaction below one that has rows left."""
        rows = await self.fetch(_OUTBOX["below"], str(xid))
        return int(rows[0]["xid"]) if rows else None

    async def look(self, cursor: Cursor, most: int) -> SeenRows[RowBeside]:
        """Up to so many rows of the transactions that were in progress, and so many of later ones."""
        begins = cursor.begins()
        rows = await self.fetch(
            _SQL["look"],
            integers(sorted(cursor.since.running)),
            str(cursor.late.xid),
            cursor.late.row_id,
            str(begins.xid),
            begins.row_id,
            most,
        )
        found = [_row(row) for row in rows if row["id"] is not None]
        return SeenRows(found, CommitSnapshot.read(rows[0]["snapshot"]))

    async def sizes(self, row_ids: Sequence[TaskId], *, refused: bool = False) -> dict[TaskId, int]:
        """Those of these rows that are there, and how many bytes each has. `refused`: also those that were
        refused."""
        rows = await self.fetch(_SQL["sizes"], sorted(row_ids), refused)
        return {TaskId(str(row["id"])): row["size_bytes"] for row in rows}

    async def refuse(self, row_id: TaskId, reason: str) -> None:
        """Let a row wait apart, and say why."""
        await self.fetch(_OUTBOX["hold"], [row_id], [None], [reason], "refused")

    @asynccontextmanager
    async def taking(self, row_ids: Sequence[TaskId]) -> AsyncIterator[list[CarriedRow]]:
        """Rows, without those that another broker takes. They are removed when the block ends without an
        error. Raises StatementRefused where one has a time that cannot be read."""
        with _unavailable(self.place):
            pool = await self._opened()
            async with pool.one() as connection, connection.transaction():
                try:
                    rows = await self._answered(connection, _SQL["take"], sorted(row_ids))
                except OverflowError as error:  # Postgres has years that Python has not
                    raise StatementRefused(error) from error
                yield [CarriedRow(TaskId(str(row["id"])), *[row[name] for name in _COLUMNS]) for row in rows]

    async def fetch(self, sql: str, *args: object) -> list[Any]:
        """The rows of one statement."""
        with _unavailable(self.place):
            pool = await self._opened()
            async with pool.one() as connection:
                return await self._answered(connection, sql, *args)

    async def _answered(self, connection: Any, sql: str, *args: object) -> list[Any]:
        began = time.monotonic()
        try:
            rows: list[Any] = await connection.fetch(sql, *args)
        except TimeoutError:
            connection.terminate()
            raise
        self._counters.statement(NAMES.get(sql, "other"), time.monotonic() - began)
        return rows

    async def _opened(self) -> Connections:
        async with self._opening:
            if self._pool is None:
                pool = await self._connector.pool(_SETTINGS, _TIMEOUTS, _CONNECTIONS)
                self._pool = Connections(pool, _TIMEOUTS.connect_s)
            return self._pool


_COLUMNS: Final = ("task", "queue", "payload", "options", "run_at", "enqueued_at")


class CarriedStore:
    """Statements for the broker's own database. Each raises StorageUnavailable."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def carry(self, rows: Sequence[CarriedRow]) -> None:
        """Put rows into the broker's own outbox, each once. Raises StatementRefused."""
        rows = sorted(rows, key=lambda row: row.row_id)
        columns = [[getattr(row, name) for row in rows] for name in _COLUMNS]
        put = await self._database.fetch(_SQL["carry"], [row.row_id for row in rows], *columns)
        if len(put) < len(rows):
            # Some came before: that commit may have been interrupted before it was replicated.
            await self._database.confirm()

    async def carried(self, most: int) -> list[TaskId]:
        """Rows that were carried some time ago."""
        return [TaskId(str(row["id"])) for row in await self._database.fetch(_SQL["carried"], most)]

    async def forget(self, row_ids: Sequence[TaskId]) -> None:
        """They are in the other database no more."""
        await self._database.execute(_SQL["forget"], row_ids)


def _row(row: Any) -> RowBeside:
    row_id = TaskId(str(row["id"]))
    return RowBeside(row_id, Position(int(row["xid"]), row_id), row["is_late"], row["size_bytes"])
