"""Connections to Postgres: a hot pool whose plans are pinned, a pool for reads, and one for vital statements.

Plans decide everything on the live tables: their statistics say "empty" or "huge" depending on when
autovacuum last looked, so the hot connections never let the planner choose a scan that reads the
dead rows of the past (docs/adr/0003-pinned-plans.md has the measurements).
"""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final

import asyncpg

from hyrex_broker.domain.counters import Counters
from hyrex_broker.domain.errors import LanesClosed, StorageUnavailable
from hyrex_broker.domain.model import TaskId
from hyrex_broker.domain.outbox import RefusedRow
from hyrex_broker.storage.availability import Availability
from hyrex_broker.storage.connect import DEFAULT_SCHEMA, Connector, Timeouts
from hyrex_broker.storage.connections import Connections
from hyrex_broker.storage.replication import CONFIRM, require_replicated
from hyrex_broker.storage.settings import HOT_SETTINGS, READ_SETTINGS
from hyrex_broker.storage.sqlstates import NOT_ANSWERED, StatementRefused, translated
from hyrex_broker.storage.statements import NAMES

__all__ = ["HOT_SETTINGS", "READ_SETTINGS", "Database", "Transaction"]

log = logging.getLogger(__name__)

ACQUIRE_TIMEOUT_S: Final = 5.0
COMMAND_TIMEOUT_S: Final = 6.0
VITAL_TIMEOUT_S: Final = 2.0
"""For heartbeats. A connection that a middlebox has dropped gives no error: sessions must be renewed over
another one long before their leases end, and no other statements may delay that."""
_APART: Final = 4
_ATTEMPTS: Final = 5
_UNNAMED: Final = "other"
_REPEAT: Final = (asyncpg.SerializationError, asyncpg.DeadlockDetectedError)
_CLOSING: Final = (asyncpg.PostgresError, *NOT_ANSWERED)


class Transaction:
    """A connection inside one transaction."""

    def __init__(self, connection: Any, counters: Counters) -> None:
        self._connection = connection
        self.counters = counters

    async def fetch(self, sql: str, *args: object) -> list[asyncpg.Record]:
        """Rows of one statement."""
        began = time.monotonic()
        rows: list[asyncpg.Record] = await self._connection.fetch(sql, *args)
        self.counters.statement(NAMES.get(sql, _UNNAMED), time.monotonic() - began)
        return rows

    async def fetchrow(self, sql: str, *args: object) -> asyncpg.Record | None:
        """The first row, if any."""
        rows = await self.fetch(sql, *args)
        return rows[0] if rows else None

    async def execute(self, sql: str, *args: object) -> str:
        """The command tag of one statement."""
        began = time.monotonic()
        tag: str = await self._connection.execute(sql, *args)
        self.counters.statement(NAMES.get(sql, _UNNAMED), time.monotonic() - began)
        return tag

    async def confirm(self) -> None:
        """See `Database.confirm`; the transaction's own commit waits."""
        await self.execute(CONFIRM)

    async def set_local(self, settings: Iterable[str]) -> None:
        """Make settings (`name = value`) that end with the transaction."""
        for setting in settings:
            await self.execute(f"set local {setting}")


class Database:
    """The pools. Every method raises StorageUnavailable when Postgres does not answer in time or refuses
    everything, StatementRefused when it refuses an item; deadlocks and the like are repeated."""

    def __init__(
        self, url: str, *, schema: str = DEFAULT_SCHEMA, hot_connections: int = 6, read_connections: int = 4
    ) -> None:
        self.url = url
        self.connector = Connector(url, schema)
        self.availability = Availability()
        self.counters = Counters()
        self.on_missing_partition: Callable[[], None] = lambda: None
        """Called when a statement found no partition for its day."""
        self.on_closed_lanes: Callable[[], None] = lambda: None
        """Called when a statement named lanes in which nothing is to be stored any more."""
        self.on_refusal: Callable[[StorageUnavailable], None] = self.availability.refused
        self.bring: Callable[[Sequence[TaskId]], Awaitable[bool]] | None = None
        """Where there is an outbox beside this database: brings those of these tasks that are there into the
        outbox here. False: nobody can tell now whether they are."""
        self.refused_beside: Callable[[Sequence[TaskId], bool], Awaitable[list[RefusedRow]]] | None = None
        """Likewise: those of these rows that were refused there, with their payloads if wanted."""
        self.is_standby = False
        """True: unlogged tables cannot be read here."""
        self._sizes = (hot_connections, read_connections)
        self._hot: Connections | None = None
        self._reads: Connections | None = None
        self._vital: Connections | None = None
        self._apart: Connections | None = None
        self._opening_apart = asyncio.Lock()

    async def open(self) -> None:
        """Connect; raises StorageUnavailable if that fails, and leaves no connection then."""
        try:
            with translated():
                self._hot = await self._pool(self._sizes[0], HOT_SETTINGS)
                self._reads = await self._pool(self._sizes[1], READ_SETTINGS)
                self._vital = await self._pool(2, HOT_SETTINGS, VITAL_TIMEOUT_S)
        except BaseException:
            for pool in self._pools():
                pool.terminate()
            raise

    async def _pool(
        self, size: int, settings: Mapping[str, str], timeout_s: float = COMMAND_TIMEOUT_S
    ) -> Connections:
        timeouts = Timeouts(min(timeout_s, ACQUIRE_TIMEOUT_S), timeout_s)
        pool = await self.connector.pool(settings, timeouts, size)
        return Connections(pool, timeouts.connect_s)

    def _pools(self) -> list[Connections]:
        pools = (self._hot, self._reads, self._vital, self._apart)
        return [pool for pool in pools if pool is not None]

    def sizes(self) -> dict[str, dict[str, int]]:
        """What is here now, for a report of this process (SIGUSR1)."""
        pools = {"hot": self._hot, "reads": self._reads, "vital": self._vital, "apart": self._apart}
        return {name: pool.sizes() for name, pool in pools.items() if pool is not None}

    def terminate(self) -> None:
        """Close every connection at once; those that wait for one get StorageUnavailable."""
        self.connector.close()
        for pool in self._pools():
            pool.terminate()

    async def look(self) -> None:
        """Ask every server whether one of them is a new primary; the connector's checks note it."""
        await self.connector.look(READ_SETTINGS, Timeouts(ACQUIRE_TIMEOUT_S, COMMAND_TIMEOUT_S))

    async def replace_connections(self) -> None:
        """Close the connections that are not in use now, and the others when they are given back: their
        server is a standby by now, or a middlebox has dropped them."""
        for pool in self._pools():
            await pool.replace()

    async def close(self) -> None:
        """Close the pools, by force if they linger."""
        self.connector.close()
        for pool in self._pools():
            try:
                async with asyncio.timeout(2):
                    await pool.close()
            except _CLOSING:
                pool.terminate()

    async def fetch(
        self, sql: str, *args: object, read: bool = False, vital: bool = False
    ) -> list[asyncpg.Record]:
        """Rows of one statement in a transaction of its own; `vital` for what keeps sessions alive."""
        pool = self._vital if vital else self._reads if read else self._hot
        rows: list[asyncpg.Record] = await self._repeated(pool, sql, lambda one: one.fetch(sql, *args))
        return rows

    async def fetch_apart(self, sql: str, *args: object) -> list[asyncpg.Record]:
        """As `fetch`, over connections of its own: for what waits for locks that may be held for long, so
        that it keeps none from what does not. They are made when the first such statement comes."""
        async with self._opening_apart:
            if self._apart is None:
                with translated():
                    self._apart = await self._pool(_APART, HOT_SETTINGS)
        rows: list[asyncpg.Record] = await self._repeated(self._apart, sql, lambda one: one.fetch(sql, *args))
        return rows

    async def fetchrow(
        self, sql: str, *args: object, read: bool = False, vital: bool = False
    ) -> asyncpg.Record | None:
        """The first row, if any."""
        rows = await self.fetch(sql, *args, read=read, vital=vital)
        return rows[0] if rows else None

    async def execute(self, sql: str, *args: object, read: bool = False) -> str:
        """The command tag of one statement."""
        pool = self._reads if read else self._hot
        tag: str = await self._repeated(pool, sql, lambda one: one.execute(sql, *args))
        return tag

    async def confirm(self) -> None:
        """Return when all that was visible before is where commits must be: on the synchronous standbys, if
        there are any. Call it before answering from rows whose commit was somebody else's: that may have been
        interrupted (see replication.py)."""
        await self.execute(CONFIRM)

    async def _repeated(
        self, pool: Connections | None, sql: str, speak: Callable[[Any], Awaitable[Any]]
    ) -> Any:
        assert pool is not None  # opened
        if pool is not self._vital:
            self.availability.check()
        for attempt in range(_ATTEMPTS):
            try:
                with translated():
                    async with pool.one() as connection:
                        began = time.monotonic()
                        answer = await _answered(connection, speak)
                        self.counters.statement(NAMES.get(sql, _UNNAMED), time.monotonic() - began)
                        return answer
            except _REPEAT:
                log.warning("statement repeated after a conflict", extra={"attempt": attempt})
            except (StorageUnavailable, StatementRefused) as error:
                await self._note(pool, error)
                raise
        raise StorageUnavailable("the database kept reporting conflicts", conflict=True)

    @asynccontextmanager
    async def transaction(self, *, read: bool = False) -> AsyncIterator[Transaction]:
        """Several statements in one transaction (READ COMMITTED: each sees what is committed by then).

        `read`: over the connections with settings for reads; it may write all the same, as statistics do.
        A deadlock or serialisation failure raises StorageUnavailable too: nothing was stored, and the
        caller repeats the whole.
        """
        pool = self._reads if read else self._hot
        assert pool is not None  # opened
        self.availability.check()
        try:
            with translated():
                async with pool.one() as connection:
                    async with connection.transaction():
                        yield Transaction(connection, self.counters)
                    require_replicated(connection)
        except _REPEAT as error:
            raise StorageUnavailable(f"a conflict in the database: {error}", conflict=True) from error
        except (StorageUnavailable, StatementRefused) as error:
            await self._note(pool, error)
            raise

    async def _note(self, pool: Connections, error: StorageUnavailable | StatementRefused) -> None:
        """Act on failures that concern more than their statement."""
        if isinstance(error, StatementRefused):
            if error.lacks_partition:
                self.on_missing_partition()
            return
        if isinstance(error, LanesClosed):
            self.on_closed_lanes()
        if isinstance(error.__cause__, asyncpg.ReadOnlySQLTransactionError):
            # The other connections lead to the same server, which is a standby by now.
            await self.replace_connections()
        if error.lasts and pool is self._hot:
            self.on_refusal(error)


async def _answered(connection: Any, speak: Callable[[Any], Awaitable[Any]]) -> Any:
    try:
        answer = await speak(connection)
    except TimeoutError:
        # Without waiting for a cancellation, which may never reach the server; others use other connections.
        connection.terminate()
        raise
    require_replicated(connection)
    return answer
