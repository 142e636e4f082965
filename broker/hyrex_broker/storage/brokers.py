"""The brokers that share this database, and how they wake each other."""

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import asyncpg

from hyrex_broker.domain.model import BrokerId
from hyrex_broker.storage.pool import Database, translated
from hyrex_broker.storage.statements import load

log = logging.getLogger(__name__)

_SQL: Final = load("brokers")
_PROBE_EVERY_S: Final = 10.0
_ANSWER_WITHIN_S: Final = 5.0


@dataclass(frozen=True, slots=True)
class Others:
    """Other brokers seen lately, and whether a client watches tasks at any of them."""

    count: int
    watching: bool


class BrokerStore:
    """Statements of `brokers.sql`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def register(self, name: str, address: str, version: str) -> BrokerId:
        """A new broker."""
        row = await self._database.fetchrow(_SQL["register"], name, address, version)
        assert row is not None
        return BrokerId(row["id"])

    async def moved(self, broker: BrokerId, address: str) -> None:
        """The broker's real address, once it is bound."""
        await self._database.execute(_SQL["moved"], broker, address)

    async def seen(self, broker: BrokerId, *, watching: bool) -> Others:
        """This broker lives; who else does?"""
        row = await self._database.fetchrow(_SQL["seen"], broker, watching, vital=True)
        assert row is not None
        return Others(row["others"], row["watching"])

    async def unregister(self, broker: BrokerId) -> None:
        """This broker has stopped."""
        await self._database.execute(_SQL["unregister"], broker)


class Channel:
    """One connection of its own for LISTEN and NOTIFY: NOTIFY holds an instance-wide lock through
    its commit, so it never shares a transaction with work."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._connection: Any = None
        self._one_at_a_time = asyncio.Lock()

    async def listen(self, names: tuple[str, ...], on_word: Callable[[str, str], None]) -> None:
        """Hear until the connection ends or falls silent, which raises StorageUnavailable."""
        with translated():
            connection = await asyncpg.connect(self._url, timeout=5, command_timeout=_ANSWER_WITHIN_S)
            ended = asyncio.Event()
            connection.add_termination_listener(lambda _: ended.set())
            try:
                for name in names:
                    await connection.add_listener(name, lambda _c, _p, channel, text: on_word(channel, text))
                self._connection = connection
                on_word("", "")
                while not await _set_within(ended, _PROBE_EVERY_S):
                    # Who only listens never notices that nobody is there any more.
                    await self._execute(connection, "select 1")
                raise ConnectionResetError("the listening connection ended")
            finally:
                self._connection = None
                connection.terminate()

    async def tell(self, name: str, text: str) -> None:
        """Say a word to the other brokers; lost words are made up for by polls."""
        connection = self._connection
        if connection is None:
            return
        with translated():
            await self._execute(connection, "select pg_notify($1, $2)", name, text)

    async def _execute(self, connection: Any, sql: str, *args: object) -> None:
        async with self._one_at_a_time:
            await connection.execute(sql, *args)


async def _set_within(event: asyncio.Event, seconds: float) -> bool:
    """Whether the event is set, now or within some seconds."""
    try:
        async with asyncio.timeout(seconds):
            return await event.wait()
    except TimeoutError:
        return False
