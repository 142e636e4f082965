"""The kinds of connections that `task.on` takes, known by the names of their classes: nothing is imported."""

from abc import ABC, abstractmethod
from typing import Any, Final

from hyrex.errors import NotInTransaction, UnknownConnection
from hyrex.transactions.statement import Enqueue, translated

__all__ = ["AsyncUser", "SyncUser", "user_of"]

_IDLE: Final = 0
_PERCENT: Final = ("%s",) * 5
_NUMBERED: Final = ("$1", "$2", "$3", "$4", "$5")
_NAMES: Final = ("task", "payload", "queue", "options", "task_id")


class SyncUser(ABC):
    """A connection that is used without `await`."""

    name = "this connection"

    def __init__(self, connection: Any) -> None:
        self.connection = connection

    def enqueue(self, call: Enqueue) -> None:
        """Make the call in the connection's transaction. Raises NotInTransaction."""
        self.require_transaction()
        with translated(call):
            self.execute(call)

    @abstractmethod
    def require_transaction(self) -> None:
        """Raise NotInTransaction unless what is executed now commits with something else."""

    @abstractmethod
    def execute(self, call: Enqueue) -> None:
        """Make the call."""


class AsyncUser(ABC):
    """A connection that is used with `await`."""

    name = "this connection"

    def __init__(self, connection: Any) -> None:
        self.connection = connection

    @abstractmethod
    async def enqueue(self, call: Enqueue) -> None:
        """Make the call in the connection's transaction. Raises NotInTransaction."""


class Psycopg(SyncUser):
    """A Connection of psycopg 3."""

    name = "a Connection of psycopg"

    def require_transaction(self) -> None:
        """See SyncUser."""
        _require_psycopg_transaction(self.connection)

    def execute(self, call: Enqueue) -> None:
        """See SyncUser."""
        with self.connection.cursor() as cursor:
            cursor.execute(call.sql(*_PERCENT), call.values)


class AsyncPsycopg(AsyncUser):
    """An AsyncConnection of psycopg 3."""

    name = "an AsyncConnection of psycopg"

    async def enqueue(self, call: Enqueue) -> None:
        """See AsyncUser."""
        _require_psycopg_transaction(self.connection)
        with translated(call):
            async with self.connection.cursor() as cursor:
                await cursor.execute(call.sql(*_PERCENT), call.values)


def _require_psycopg_transaction(connection: Any) -> None:
    if connection.autocommit and connection.info.transaction_status == _IDLE:
        raise _not_in_transaction("with connection.transaction()")


class Asyncpg(AsyncUser):
    """A Connection of asyncpg, or one that its pool has lent."""

    name = "a Connection of asyncpg"

    async def enqueue(self, call: Enqueue) -> None:
        """See AsyncUser."""
        if not self.connection.is_in_transaction():
            raise _not_in_transaction("async with connection.transaction()")
        with translated(call):
            await self.connection.fetchval(call.sql(*_NUMBERED), *call.values)


class Sqlalchemy(SyncUser):
    """A Connection or a Session of SQLAlchemy."""

    name = "a Connection or Session of SQLAlchemy"

    def require_transaction(self) -> None:
        """See SyncUser."""
        _require_sqlalchemy_transaction(self.connection)

    def execute(self, call: Enqueue) -> None:
        """See SyncUser."""
        _execute_sqlalchemy(self.connection, call)


class AsyncSqlalchemy(AsyncUser):
    """An AsyncConnection or an AsyncSession of SQLAlchemy."""

    name = "an AsyncConnection or AsyncSession of SQLAlchemy"

    async def enqueue(self, call: Enqueue) -> None:
        """See AsyncUser."""
        with translated(call):
            await self.connection.run_sync(_enqueue_sqlalchemy, call)


def _enqueue_sqlalchemy(connection: Any, call: Enqueue) -> None:
    _require_sqlalchemy_transaction(connection)
    _execute_sqlalchemy(connection, call)


def _require_sqlalchemy_transaction(connection: Any) -> None:
    """SQLAlchemy begins a transaction by itself, unless the connection commits each statement."""
    own = connection.connection() if callable(connection.connection) else connection
    if own.dialect.name != "postgresql":
        raise UnknownConnection(
            f"task.on() needs a connection to Postgres, and this one is to {own.dialect.name}:"
            " send the task when your transaction has committed"
        )
    if getattr(own.connection.dbapi_connection, "autocommit", False):
        raise _not_in_transaction("an isolation level other than AUTOCOMMIT")


def _execute_sqlalchemy(connection: Any, call: Enqueue) -> None:
    from sqlalchemy import text

    connection.execute(
        text(call.sql(*(f":{name}" for name in _NAMES))), dict(zip(_NAMES, call.values, strict=True))
    )


class Django(SyncUser):
    """A connection of Django's, as `django.db.connection` and `connections[...]` are."""

    name = "a connection of Django"

    def require_transaction(self) -> None:
        """See SyncUser."""
        if self.connection.vendor != "postgresql":
            raise UnknownConnection(
                f"task.on() needs a connection to Postgres, and this one is to {self.connection.vendor}: use"
                " hyrex.contrib.django.on_commit(task).send(...), which sends after the commit"
            )
        if not self.connection.in_atomic_block and self.connection.get_autocommit():
            raise _not_in_transaction("with transaction.atomic()")

    def execute(self, call: Enqueue) -> None:
        """See SyncUser."""
        with self.connection.cursor() as cursor:
            cursor.execute(call.sql(*_PERCENT), call.values)


_KINDS: Final[dict[str, type[SyncUser] | type[AsyncUser]]] = {
    "psycopg.Connection": Psycopg,
    "psycopg.AsyncConnection": AsyncPsycopg,
    "asyncpg.Connection": Asyncpg,
    "asyncpg.PoolConnectionProxy": Asyncpg,
    "sqlalchemy.Connection": Sqlalchemy,
    "sqlalchemy.Session": Sqlalchemy,
    "sqlalchemy.scoped_session": Sqlalchemy,
    "sqlalchemy.AsyncConnection": AsyncSqlalchemy,
    "sqlalchemy.AsyncSession": AsyncSqlalchemy,
    "sqlalchemy.async_scoped_session": AsyncSqlalchemy,
    "django.BaseDatabaseWrapper": Django,
    "django.ConnectionProxy": Django,
}


def user_of(connection: object) -> SyncUser | AsyncUser:
    """Who makes calls on a connection. Raises UnknownConnection."""
    for kind in type(connection).__mro__:
        known = _KINDS.get(f"{kind.__module__.partition('.')[0]}.{kind.__qualname__}")
        if known is not None:
            return known(connection)
    raise UnknownConnection(
        f"task.on() takes a connection of psycopg 3, asyncpg, SQLAlchemy or Django, got {_told(connection)};"
        " of others call hyrex.enqueue in SQL"
    )


def _told(connection: object) -> str:
    kind = type(connection)
    return f"a {kind.__module__}.{kind.__qualname__}"


def _not_in_transaction(remedy: str) -> NotInTransaction:
    return NotInTransaction(
        "the connection commits each statement by itself, so the task would not share the fate of anything:"
        f" begin a transaction ({remedy}), or use send()"
    )
