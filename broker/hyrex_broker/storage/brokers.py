"""The brokers that share this database, and their notifications to each other."""

import asyncio
import json
import logging
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from hyrex_broker.domain.errors import SchemaOutOfRange
from hyrex_broker.domain.features import FEATURES, Feature, OlderBroker
from hyrex_broker.domain.model import BrokerId
from hyrex_broker.storage.connect import DEFAULT_SCHEMA, Connector, Timeouts, connector_of
from hyrex_broker.storage.migrate import migrations
from hyrex_broker.storage.pool import Database
from hyrex_broker.storage.settings import CHANNEL_SETTINGS
from hyrex_broker.storage.sqlstates import translated
from hyrex_broker.storage.statements import load

log = logging.getLogger(__name__)

_SQL: Final = load("brokers")
_TRIAL_BYTES: Final = 256 * 1024
_PROBE_EVERY_S: Final = 10.0
_ANSWER_WITHIN_S: Final = 5.0


@dataclass(frozen=True, slots=True)
class Others:
    """Other brokers seen lately, whether a client watches tasks at any of them, and whether they can see this
    one: its row is there."""

    count: int
    watching: bool
    synchronous: bool
    """Commits wait for a standby; of the database, seen in the same statement."""
    sees_us: bool
    seen_at: datetime | None
    """To what time this broker's row was renewed."""
    serves_from: int
    """The schema that a broker must know to be served by this database;"""
    knows: int
    """and the newest that this broker knows."""
    older: Sequence[OlderBroker]
    """Those of the others that lack features of this one."""
    unknown: Sequence[str] = ()
    """Features that are used in this database and that this broker lacks."""
    carrying: Sequence[str] = ()
    """The names of those that take the rows of an outbox in another database."""


def _listed(told: str | None) -> list[tuple[str, str, list[str]]]:
    return [] if told is None else [tuple(each) for each in json.loads(told)]


class _TakenBackError(Exception):
    """Rolls a trial back."""


class BrokerStore:
    """Statements of `brokers.sql`."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self.availability = database.availability
        self.counters = database.counters

    async def replace_connections(self) -> None:
        """Make new connections: no statement begins on one of the present ones any more."""
        await self._database.replace_connections()

    async def register(
        self, name: str, address: str, version: str, *, observes: bool = False, carries: bool = False
    ) -> BrokerId:
        """Register a new broker; `observes`: it shows metrics; `carries`: it takes the rows of an outbox in
        another database. Raises SchemaOutOfRange if it lacks a feature that is used here."""
        knows = migrations()[-1].number
        async with self._database.transaction() as transaction:
            await transaction.execute(_SQL["lock_features"])
            unknown = await transaction.fetch(_SQL["unknown_features"], FEATURES)
            if unknown:
                raise SchemaOutOfRange(
                    f"this database has used {', '.join(row['name'] for row in unknown)}, which this broker"
                    " does not know and would break: upgrade it (docs/operating/upgrade.md has the way back)"
                )
            row = await transaction.fetchrow(
                _SQL["register"], name, address, version, observes, knows, FEATURES, carries
            )
        assert row is not None
        return BrokerId(row["id"])

    async def use_features(self, broker: BrokerId, features: Sequence[Feature]) -> list[OlderBroker]:
        """Note that features are used from now on, so that no broker that lacks one begins. Where another one
        lives that does, nothing is noted, and those are returned."""
        async with self._database.transaction() as transaction:
            await transaction.execute(_SQL["lock_features"])
            rows = await transaction.fetch(_SQL["older"], features, broker)
            if not rows:
                await transaction.execute(_SQL["use_features"], features)
        return [OlderBroker(row["name"], row["version"], frozenset(row["features"])) for row in rows]

    async def moved(self, broker: BrokerId, address: str) -> None:
        """Store the broker's real address, which is known when it is bound."""
        await self._database.execute(_SQL["moved"], broker, address)

    async def seen(self, broker: BrokerId, *, watching: bool) -> Others:
        """Note that this broker runs; return which others do."""
        row = await self._database.fetchrow(_SQL["seen"], broker, watching, FEATURES, vital=True)
        assert row is not None
        return Others(
            row["others"],
            row["watching"],
            row["synchronous"],
            row["known"],
            row["seen_at"],
            row["serves_from"],
            row["knows"] or 0,
            [OlderBroker(name, version, frozenset(known)) for name, version, known in _listed(row["older"])],
            row["unknown"] or (),
            row["carrying"] or (),
        )

    async def seen_at(self, broker: BrokerId) -> datetime | None:
        """When a broker's row was renewed last; None if there is none."""
        row = await self._database.fetchrow(_SQL["seen_at"], broker)
        found: datetime | None = row["seen_at"] if row is not None else None
        return found

    async def look(self) -> None:
        """Ask the database's servers whether one of them is a new primary."""
        await self._database.look()

    async def reads_depths(self, broker: BrokerId) -> bool:
        """Return True if this broker is the one that reads for all how much waits in each queue."""
        row = await self._database.fetchrow(_SQL["reads_depths"], broker, read=True)
        return row is not None and bool(row["elected"])

    async def trial(self) -> None:
        """Store a task in every table that work needs, and roll that back, to see whether the database still
        refuses. Raises StorageUnavailable, StatementRefused."""
        try:
            async with self._database.transaction() as transaction:
                # Random bytes do not compress: they need room on the disk.
                await transaction.execute(_SQL["trial"], os.urandom(_TRIAL_BYTES))
                await transaction.execute(_SQL["trial_removes"])
                raise _TakenBackError
        except _TakenBackError:
            pass

    async def unregister(self, broker: BrokerId) -> None:
        """Remove the row of this broker, which stops."""
        await self._database.execute(_SQL["unregister"], broker)


class Channel:
    """A connection for LISTEN and NOTIFY only: NOTIFY holds an instance-wide lock until its commit, so it
    must not be in a transaction with work."""

    def __init__(self, url: str | Connector, schema: str = DEFAULT_SCHEMA) -> None:
        self._connector = connector_of(url, schema)
        self._connection: Any = None
        self._one_at_a_time = asyncio.Lock()

    async def listen(self, names: tuple[str, ...], on_word: Callable[[str, str], None]) -> None:
        """Receive until the connection ends or gives no answer, which raises StorageUnavailable."""
        with translated():
            timeouts = Timeouts(connect_s=5, command_s=_ANSWER_WITHIN_S)
            connection = await self._connector.connect(CHANNEL_SETTINGS, timeouts)
            ended = asyncio.Event()
            connection.add_termination_listener(lambda _: ended.set())
            try:
                for name in names:
                    await connection.add_listener(self._of_schema(name), _hearing(on_word, name))
                self._connection = connection
                on_word("", "")
                while not await _set_within(ended, _PROBE_EVERY_S):
                    # A connection that only listens does not notice that its server is gone, or is a standby
                    # by now, which refuses this statement.
                    await self._execute(connection, "listen " + self._of_schema(names[0]))
                raise ConnectionResetError("the listening connection ended")
            finally:
                self._connection = None
                connection.terminate()

    async def tell(self, name: str, text: str) -> None:
        """Send a notification to the other brokers; polls make up for lost ones."""
        connection = self._connection
        if connection is None:
            return
        with translated():
            await self._execute(connection, "select pg_notify($1, $2)", self._of_schema(name), text)

    def _of_schema(self, name: str) -> str:
        """The channel's name with the schema, since channels belong to the database, and other schemas have
        brokers too."""
        return f"{self._connector.schema}_{name}"

    async def _execute(self, connection: Any, sql: str, *args: object) -> None:
        async with self._one_at_a_time:
            await connection.execute(sql, *args)


def _hearing(on_word: Callable[[str, str], None], name: str) -> Callable[..., None]:
    return lambda _connection, _pid, _channel, text: on_word(name, text)


async def _set_within(event: asyncio.Event, seconds: float) -> bool:
    """Return True if the event is set, now or within some seconds."""
    try:
        async with asyncio.timeout(seconds):
            return await event.wait()
    except TimeoutError:
        return False
