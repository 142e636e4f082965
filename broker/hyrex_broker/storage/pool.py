"""Connections to Postgres: a hot pool whose plans are pinned, a pool for reads, and one for proofs of life.

Plans decide everything on the live tables: their statistics say "empty" or "huge" depending on when
autovacuum last looked, so the hot connections never let the planner choose a scan that reads the
dead rows of the past (docs/adr/0003-pinned-plans.md has the measurements).
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, contextmanager
from typing import Any, Final

import asyncpg

from hyrex_broker.domain.errors import StorageUnavailable
from hyrex_broker.storage.connections import Connections

log = logging.getLogger(__name__)

HOT_SETTINGS: Final = {
    "application_name": "hyrex-broker",
    "plan_cache_mode": "force_generic_plan",
    "jit": "off",
    "enable_seqscan": "off",
    "enable_hashjoin": "off",
    "enable_mergejoin": "off",
    "enable_bitmapscan": "off",
    # Low-water marks trail the clock by 3 s: no statement that inserts may take longer (rule 11).
    "statement_timeout": "2500",
    "idle_in_transaction_session_timeout": "2500",
}
READ_SETTINGS: Final = {
    "application_name": "hyrex-broker-reads",
    "jit": "off",
    "statement_timeout": "5000",
    "idle_in_transaction_session_timeout": "5000",
}
ACQUIRE_TIMEOUT_S: Final = 5.0
COMMAND_TIMEOUT_S: Final = 6.0
VITAL_TIMEOUT_S: Final = 2.0
"""A connection that a middlebox has dropped says nothing: workers must be renewed over another one long
before their leases end, and no flood of other statements may be in the way."""
_GONE: Final = (
    asyncpg.PostgresConnectionError,
    asyncpg.exceptions.OperatorInterventionError,
    asyncpg.exceptions.InsufficientResourcesError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,
    asyncpg.exceptions.IdleInTransactionSessionTimeoutError,
    # A failover has left us on a server that only reads, or that fails inside.
    asyncpg.exceptions.ReadOnlySQLTransactionError,
    asyncpg.exceptions.PostgresSystemError,
    asyncpg.exceptions.InternalServerError,
    ConnectionError,
    OSError,
)
_ATTEMPTS: Final = 5
_REPEAT: Final = (asyncpg.SerializationError, asyncpg.DeadlockDetectedError)
_REFUSED: Final = (
    asyncpg.DataError,
    asyncpg.IntegrityConstraintViolationError,
    asyncpg.exceptions.ProgramLimitExceededError,
)


async def _durable(connection: Any) -> None:
    """A commit is on disk before it is acknowledged, whatever the server, database or role prefers (rule 9).
    Only `off` is overruled: every other value keeps what is acknowledged, or keeps it in more places."""
    await connection.execute(
        "select set_config('synchronous_commit', 'on', false)"
        " where current_setting('synchronous_commit') = 'off'"
    )


async def _as_it_is(connection: object) -> None:
    """No statement here changes its session, so nothing is reset when a connection returns: asyncpg's own
    reset is a round trip for each statement."""


class StatementRefused(Exception):
    """Postgres refused the data of a statement (SQLSTATE class 22, 23 or 54): one item is at fault."""

    def __init__(self, cause: Exception) -> None:
        super().__init__(str(cause))
        self.sqlstate: str = getattr(cause, "sqlstate", None) or "22000"


@contextmanager
def translated() -> Any:
    """Turn asyncpg's exceptions into the storage's own."""
    try:
        yield
    except _REFUSED as error:
        raise StatementRefused(error) from error
    except (asyncpg.QueryCanceledError, TimeoutError) as error:
        raise StorageUnavailable(f"the database did not answer in time: {error}", timed_out=True) from error
    except _GONE as error:
        raise StorageUnavailable(f"the database did not answer: {type(error).__name__}: {error}") from error


class Transaction:
    """A connection inside one transaction."""

    def __init__(self, connection: Any) -> None:
        self._connection = connection

    async def fetch(self, sql: str, *args: object) -> list[asyncpg.Record]:
        """Rows of one statement."""
        rows: list[asyncpg.Record] = await self._connection.fetch(sql, *args)
        return rows

    async def fetchrow(self, sql: str, *args: object) -> asyncpg.Record | None:
        """The first row, if any."""
        row: asyncpg.Record | None = await self._connection.fetchrow(sql, *args)
        return row

    async def execute(self, sql: str, *args: object) -> str:
        """The command tag of one statement."""
        tag: str = await self._connection.execute(sql, *args)
        return tag


class Database:
    """The pools. Every method raises StorageUnavailable when Postgres does not answer in time,
    StatementRefused when it refuses an item; deadlocks and serialisation failures are repeated."""

    def __init__(self, url: str, *, hot_connections: int = 6, read_connections: int = 4) -> None:
        self.url = url
        self._sizes = (hot_connections, read_connections)
        self._hot: Connections | None = None
        self._reads: Connections | None = None
        self._vital: Connections | None = None

    async def open(self) -> None:
        """Connect; raises StorageUnavailable if that fails."""
        with translated():
            self._hot = await self._pool(self._sizes[0], HOT_SETTINGS)
            self._reads = await self._pool(self._sizes[1], READ_SETTINGS)
            self._vital = await self._pool(2, HOT_SETTINGS, VITAL_TIMEOUT_S)

    async def _pool(
        self, size: int, settings: dict[str, str], timeout_s: float = COMMAND_TIMEOUT_S
    ) -> Connections:
        pool = await asyncpg.create_pool(
            self.url,
            min_size=1,
            max_size=size,
            server_settings=settings,
            max_inactive_connection_lifetime=0,
            max_cached_statement_lifetime=0,
            command_timeout=timeout_s,
            timeout=ACQUIRE_TIMEOUT_S,
            init=_durable,
            reset=_as_it_is,
        )
        return Connections(pool, ACQUIRE_TIMEOUT_S)

    def _pools(self) -> list[Connections]:
        return [pool for pool in (self._hot, self._reads, self._vital) if pool is not None]

    def terminate(self) -> None:
        """Cut every connection at once; whoever waits for one gets StorageUnavailable."""
        for pool in self._pools():
            pool.terminate()

    async def close(self) -> None:
        """Close the pools, by force if they linger."""
        for pool in self._pools():
            try:
                async with asyncio.timeout(2):
                    await pool.close()
            except (TimeoutError, *_GONE):
                pool.terminate()

    async def fetch(
        self, sql: str, *args: object, read: bool = False, vital: bool = False
    ) -> list[asyncpg.Record]:
        """Rows of one statement in a transaction of its own; `vital` for what keeps sessions alive."""
        pool = self._vital if vital else self._reads if read else self._hot
        rows: list[asyncpg.Record] = await self._repeated(pool, lambda one: one.fetch(sql, *args))
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
        tag: str = await self._repeated(pool, lambda one: one.execute(sql, *args))
        return tag

    async def _repeated(self, pool: Connections | None, speak: Callable[[Any], Awaitable[Any]]) -> Any:
        assert pool is not None  # opened
        for attempt in range(_ATTEMPTS):
            try:
                with translated():
                    async with pool.one() as connection:
                        return await _answered(connection, speak)
            except _REPEAT:
                log.warning("statement repeated after a conflict", extra={"attempt": attempt})
        raise StorageUnavailable("the database kept reporting conflicts", conflict=True)

    @asynccontextmanager
    async def transaction(self, *, read: bool = False) -> AsyncIterator[Transaction]:
        """Several statements in one transaction (READ COMMITTED: each sees what is committed by then).

        A deadlock or serialisation failure raises StorageUnavailable too: nothing was stored, and the
        caller repeats the whole.
        """
        pool = self._reads if read else self._hot
        assert pool is not None  # opened
        try:
            with translated():
                async with pool.one() as connection, connection.transaction():
                    yield Transaction(connection)
        except _REPEAT as error:
            raise StorageUnavailable(f"a conflict in the database: {error}", conflict=True) from error


async def _answered(connection: Any, speak: Callable[[Any], Awaitable[Any]]) -> Any:
    try:
        return await speak(connection)
    except TimeoutError:
        # Nobody waits for a cancellation that its server may never hear: the next statement has another.
        connection.terminate()
        raise
