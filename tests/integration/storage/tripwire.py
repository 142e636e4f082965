"""Does something before a statement of somebody else's connection, such as ending it."""

from collections.abc import Awaitable, Callable
from typing import Any, Final

import asyncpg

LOST: Final = (asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError, OSError)
"""What a statement raises whose connection was ended."""


class Tripwire:
    """A connection that does something before one of its statements."""

    def __init__(self, connection: Any, before: Callable[[str], Awaitable[None]]) -> None:
        self._connection = connection
        self._before = before

    def transaction(self) -> Any:
        return self._connection.transaction()

    async def execute(self, statement: str, *args: object) -> Any:
        await self._before(statement)
        return await self._connection.execute(statement, *args)

    async def fetch(self, statement: str, *args: object) -> Any:
        await self._before(statement)
        return await self._connection.fetch(statement, *args)

    async def fetchrow(self, statement: str, *args: object) -> Any:
        await self._before(statement)
        return await self._connection.fetchrow(statement, *args)

    async def fetchval(self, statement: str, *args: object) -> Any:
        await self._before(statement)
        return await self._connection.fetchval(statement, *args)
