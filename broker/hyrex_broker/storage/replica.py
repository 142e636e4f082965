"""Reads lists, counts and statistics from a standby while it is close behind: what decides nothing.

How close it is, is measured by the log's positions and this process' clock alone: no server's clock and no
quiet hour of the primary deceives it. Each half second the position of the primary is noted; a standby lags
from the moment of the first position that it has not replayed yet. Positions are compared within one timeline
only (docs/adr/0015-read-replicas.md).
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Final, Generic, TypeVar

import asyncpg

from hyrex_broker.domain.errors import StorageUnavailable
from hyrex_broker.storage.connect import ANY_SERVER
from hyrex_broker.storage.lag import LagMeter
from hyrex_broker.storage.pool import Database
from hyrex_broker.storage.sqlstates import StatementRefused
from hyrex_broker.storage.statements import load
from hyrex_broker.storage.timeline import refuses_to_tell

log = logging.getLogger(__name__)

Store = TypeVar("Store")
Answer = TypeVar("Answer")

LONGEST_LAG_S: Final = 1.0
LOOK_EVERY_S: Final = 0.5
OPEN_EVERY_S: Final = 3.0
"""While it has no connections: a server near its max_connections is not asked for more all the time."""
PROBATION_S: Final = 3.0
"""So long it must have been close before it is used again, so that one at the limit changes nothing often."""
_HOT, _READS = 2, 4
_SQL: Final = load("replication")
_NO_STANDBY: Final = "it takes writes, so it is no standby"


@dataclass(slots=True)
class ReadCounts:
    """How many reads each side answered."""

    replica: int = 0
    primary: int = 0


class Replica:
    """The standby of a URL, and whether it can be used now. Never raises where reads are concerned: the
    primary answers them."""

    def __init__(self, url: str, primary: Database, cluster: Callable[[], int | None]) -> None:
        """`cluster`: the system identifier of the primary, where it is known."""
        self.database = Database(
            url, schema=primary.connector.schema, hot_connections=_HOT, read_connections=_READS
        )
        self.database.counters = primary.counters
        self.database.on_refusal = lambda _: None
        self.database.connector.role = ANY_SERVER
        self.database.connector.checks.append(self._require_standby)
        self.database.is_standby = True
        self.served = ReadCounts()
        self.lag_s: float | None = None
        """None while it does not answer."""
        self._primary = primary
        self._cluster = cluster
        self._meter = LagMeter()
        self._newest: int | None = None
        """The timeline of the primary; None while it is not known."""
        self._is_open = False
        self._close_since: float | None = None
        self._used_until = 0.0
        self._is_used: bool | None = None
        self._why_left = ""
        self._was_slow = False
        """The last look was not answered in time, which says little of the next."""

    @property
    def usable(self) -> bool:
        """Return True if it was close behind at the last look, and that was a moment ago."""
        return time.monotonic() < self._used_until

    async def run(self) -> None:
        """Look at it until cancelled."""
        while True:
            await self._look()
            await asyncio.sleep(LOOK_EVERY_S if self._is_open else OPEN_EVERY_S)

    async def tried(self, within_s: float) -> str:
        """Look at it until it can be used, or cannot be, or the time is over. Why not; empty: it can."""
        until = time.monotonic() + within_s
        while True:
            await self._look()
            if self.usable:
                return ""
            if time.monotonic() > until or (self.lag_s is None and not self._was_slow):
                return self._why_left or f"it has not come far enough within {within_s:g} s"
            await asyncio.sleep(LOOK_EVERY_S)

    async def close(self) -> None:
        """End its connections."""
        await self.database.close()

    def failed(self, error: Exception) -> None:
        """A read failed on it: leave it until it has been close for a while."""
        self._leave(str(error))

    async def _look(self) -> None:
        try:
            replayed, timeline = await self._replayed()
        except (StorageUnavailable, StatementRefused) as error:
            self._meter.forget()
            self.lag_s = None
            self._was_slow = isinstance(error, StorageUnavailable) and error.timed_out
            self._leave(str(error))
            self._hang_up()
            return
        self._was_slow = False
        self._judge(time.monotonic(), replayed, timeline)
        await self._mark()

    def _hang_up(self) -> None:
        """End all connections, the reads on them too: they are asked of the primary at once, and not when
        their own time is over. What a promoted server answered would be that of another primary."""
        self._is_open = False
        self.database.terminate()

    def _judge(self, now: float, replayed: int, timeline: int | None) -> None:
        self.lag_s = self._meter.lag_s(now, replayed)
        if timeline is not None and self._newest is not None and timeline != self._newest:
            # Positions of two timelines cannot be compared: it may have what this primary never had.
            self.lag_s = None
            self._leave(f"it is on timeline {timeline}, and the primary on {self._newest}")
        elif self.lag_s > LONGEST_LAG_S:
            self._leave(f"it is more than {LONGEST_LAG_S:g} s behind")
        elif self._meter.has_all_but(now, LONGEST_LAG_S):
            self._stay(now)
        # Else nothing is known: it has not been looked at for long, or for the first time.

    async def _replayed(self) -> tuple[int, int | None]:
        """How far it is, and on which timeline (None if it does not tell)."""
        if not self._is_open:
            await self.database.open()
            self._is_open = True
        row = await self.database.fetchrow(_SQL["replayed"], vital=True)
        if row is None or row["position"] is None:
            raise StorageUnavailable(_NO_STANDBY)
        return int(row["position"]), await self._timeline()

    async def _timeline(self) -> int | None:
        try:
            row = await self.database.fetchrow(_SQL["replayed_timeline"], vital=True)
        except (StorageUnavailable, StatementRefused) as error:
            if refuses_to_tell(error.__cause__):
                return None
            raise
        assert row is not None
        return int(row["timeline"])

    async def _require_standby(self, connection: Any) -> None:
        """A check of new connections, so that of several servers one that is a standby is found."""
        if await connection.fetchval(_SQL["replayed"]) is None:
            raise StorageUnavailable(_NO_STANDBY)
        own, (found, _) = self._cluster(), await identity(connection)
        if own is not None and found is not None and own != found:
            raise StorageUnavailable(f"it is of another cluster: its system identifier is {found}, not {own}")

    async def _mark(self) -> None:
        # Before the question: what is written while the answer is under way is not in it.
        moment = time.monotonic()
        try:
            row = await self._primary.fetchrow(_SQL["written"], read=True)
        except (StorageUnavailable, StatementRefused):
            # The primary may be another one when it answers again.
            self._meter.forget()
            self._newest = None
            self._leave("the primary does not answer, so that nobody can tell how far behind it is")
            return
        assert row is not None
        if self._newest != (newest := int(row["timeline"])):
            self._meter.forget()  # positions of another timeline
            self._newest = newest
        self._meter.written(moment, int(row["position"]))

    def _stay(self, now: float) -> None:
        if self._close_since is None:
            self._close_since = now
        if self._is_used is not False or now - self._close_since >= PROBATION_S:
            self._used_until = now + LONGEST_LAG_S
            if self._is_used is False:
                log.warning("lists are read from the replica again")
            self._is_used = True

    def _leave(self, why: str) -> None:
        self._close_since, self._used_until, self._why_left = None, 0.0, why
        if self._is_used is not False:
            log.warning("lists are read from the primary: the replica cannot be used", extra={"reason": why})
        self._is_used = False


class Either(Generic[Store]):
    """A store on the primary, and the same on a replica where there is one."""

    def __init__(
        self, primary: Store, on_replica: Store | None = None, replica: Replica | None = None
    ) -> None:
        self.primary = primary
        self._on_replica = on_replica
        self._replica = replica

    async def ask(self, question: Callable[[Store], Awaitable[Answer]]) -> Answer:
        """The answer to a question that decides nothing. Raises what the question raises."""
        replica, store = self._replica, self._on_replica
        if replica is None or store is None:
            return await question(self.primary)
        if replica.usable:
            try:
                answer = await question(store)
            except StorageUnavailable as error:
                if _is_too_large(error):  # it would take as long on the primary
                    raise
                if not error.conflict:  # a standby cancels what is in the way of its replay
                    replica.failed(error)
            except StatementRefused as error:
                replica.failed(error)
            else:
                replica.served.replica += 1
                return answer
        replica.served.primary += 1
        return await question(self.primary)


def _is_too_large(error: StorageUnavailable) -> bool:
    """Return True if the server cut a statement off for its time; one that is silent does not say that."""
    return error.timed_out and isinstance(error.__cause__, asyncpg.QueryCanceledError)


@dataclass(frozen=True, slots=True)
class ReadFrom:
    """Where lists are read from."""

    database: Database
    replica: Replica | None = None

    async def close(self) -> None:
        """End all connections."""
        if self.replica is not None:
            await self.replica.close()
        await self.database.close()

    def of(self, make: Callable[[Database], Store]) -> Either[Store]:
        """A store on the database, and on its replica if there is one."""
        if self.replica is None:
            return Either(make(self.database))
        return Either(make(self.database), make(self.replica.database), self.replica)


def read_from(url: str | None, primary: Database, cluster: Callable[[], int | None]) -> ReadFrom:
    """Where lists are read from: without a URL, the primary."""
    return ReadFrom(primary, None if url is None else Replica(url, primary, cluster))


async def identity(connection: Any) -> tuple[int | None, str]:
    """The system identifier of a server's cluster (None if it does not tell), and the database's name."""
    try:
        cluster = int(await connection.fetchval(_SQL["cluster"]))
    except asyncpg.PostgresError as error:
        if not refuses_to_tell(error):
            raise
        cluster = None
    return cluster, str(await connection.fetchval("select current_database()"))
