"""Makes every connection of a broker: to a server that accepts writes, with the broker's own settings.

If a URL names several servers, each has a timeout of its own, and one that is silent keeps nobody from the
next: that one is tried beside it a moment later. The same goes for the addresses of a server's name. Only a
server that accepts writes is used (a standby answers, but refuses every write).

While none can be used, a connector makes one attempt at a time with a pause before it, whoever waits.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Final

import asyncpg
from asyncpg.connect_utils import SessionAttribute

from hyrex_broker import database_url
from hyrex_broker.config import DEFAULT_SCHEMA
from hyrex_broker.database_url import Server, place
from hyrex_broker.domain.errors import StorageUnavailable
from hyrex_broker.domain.futures import retrieve
from hyrex_broker.storage.dialling import Address, DiallingLoop, addresses
from hyrex_broker.storage.pause import Pause
from hyrex_broker.storage.replication import Session
from hyrex_broker.storage.settings import prepare
from hyrex_broker.storage.staggered import AllFailed, first_of
from hyrex_broker.storage.unreachable import none_left

__all__ = ["ANY_SERVER", "DEFAULT_SCHEMA", "WRITES", "Connector", "Timeouts", "connector_of", "place"]

WRITES: Final = SessionAttribute.read_write
ANY_SERVER: Final = SessionAttribute.any
SILENCE_S: Final = 0.25
"""After it the next server is tried too."""
ONE_OF_SEVERAL_S: Final = 2.0
"""For each of several servers, unless the URL has a connect_timeout."""
AGAIN_S: Final = 0.5
"""While a silent server is waited for, others are asked again so often: one may be promoted meanwhile."""
_OURS: Final = "hyrex-broker"
_APPLICATION: Final = "application_name"


@dataclass(frozen=True, slots=True)
class Timeouts:
    """Seconds within which a connection must be made, and a statement answered."""

    connect_s: float
    command_s: float


class Connector:
    """Makes the connections to the servers of one URL. Raises ValueError for a URL that is not understood."""

    def __init__(self, url: str, schema: str = DEFAULT_SCHEMA) -> None:
        self.schema = schema
        self.connection_class: type[Any] = Session
        self.role = WRITES
        self.checks: list[Callable[[Any], Awaitable[None]]] = []
        """What a new connection must pass; one that raises closes it, and the next server is tried."""
        self._url = database_url.read(url)
        self._servers = list(self._url.servers)
        self._pause = Pause()
        self._attempt: asyncio.Task[None] | None = None

    @property
    def servers(self) -> tuple[Server, ...]:
        """The servers in the order in which they are tried: the one that was used last is the first."""
        return tuple(self._servers)

    async def connect(self, settings: Mapping[str, str], timeouts: Timeouts) -> Any:
        """One connection with these settings. Raises what asyncpg raises, and StorageUnavailable."""
        if self._pause.failures:
            await self._next_attempt(settings)
        return await self._noted(settings, timeouts)

    async def pool(self, settings: Mapping[str, str], timeouts: Timeouts, size: int) -> Any:
        """A pool of up to `size` such connections, one of which is made now. Raises as `connect` does."""
        return await asyncpg.create_pool(
            min_size=1,
            max_size=size,
            max_inactive_connection_lifetime=0,
            connection_class=self.connection_class,
            connect=partial(self._for_pool, settings, timeouts),
            reset=_as_it_is,
        )

    async def connect_to(self, server: Server, settings: Mapping[str, str], timeouts: Timeouts) -> Any:
        """One connection to this server, if it can be used. Raises as `connect` does."""
        own = replace(timeouts, connect_s=self._patience_s(timeouts))
        async with asyncio.timeout(own.connect_s):
            found = await addresses(server.host)
        attempts = [partial(self._login, server, each, settings, own) for each in found]
        try:
            return await first_of(attempts, SILENCE_S, _drop, AGAIN_S)
        except AllFailed as failed:
            raise _telling(failed.errors) from None

    def _patience_s(self, timeouts: Timeouts) -> float:
        """How long each server may take."""
        if self._url.connect_timeout_s is not None:
            return self._url.connect_timeout_s
        return min(ONE_OF_SEVERAL_S, timeouts.connect_s) if len(self._servers) > 1 else timeouts.connect_s

    async def look(self, settings: Mapping[str, str], timeouts: Timeouts) -> None:
        """Ask every server (every address of each) for a connection, for the sake of the checks alone: one
        that answers may be an old primary. Returns when all have answered or had their time."""
        own = replace(timeouts, connect_s=self._patience_s(timeouts))
        await asyncio.gather(
            *[self._look_at(server, settings, own) for server in self.servers], return_exceptions=True
        )

    async def _look_at(self, server: Server, settings: Mapping[str, str], timeouts: Timeouts) -> None:
        async with asyncio.timeout(timeouts.connect_s):
            found = await addresses(server.host)
        logins = [self._login(server, each, settings, timeouts) for each in found]
        for made in await asyncio.gather(*logins, return_exceptions=True):
            if not isinstance(made, BaseException):
                _drop(made)

    def close(self) -> None:
        """End an attempt that is under way."""
        if self._attempt is not None:
            self._attempt.cancel()

    async def _for_pool(
        self, settings: Mapping[str, str], timeouts: Timeouts, _url: None, **_of_the_pool: object
    ) -> Any:
        return await self.connect(settings, timeouts)

    async def _next_attempt(self, settings: Mapping[str, str]) -> None:
        """Wait for the one attempt that all share. Raises its error, and StorageUnavailable after `close`."""
        if self._attempt is None:
            self._attempt = asyncio.ensure_future(self._after_pause(settings))
            self._attempt.add_done_callback(self._attempted)
        attempt, waiter = self._attempt, asyncio.current_task()
        try:
            await asyncio.shield(attempt)
        except asyncio.CancelledError:
            if attempt.cancelled() and not (waiter is not None and waiter.cancelling()):
                # Not the waiter's own: a cancellation would end it, and nobody would know why.
                raise StorageUnavailable("the connections to the database were closed") from None
            raise

    async def _after_pause(self, settings: Mapping[str, str]) -> None:
        await asyncio.sleep(self._pause.left_s)
        if len(self._servers) > 1:
            # The one used last may be an old primary that can be reached again.
            with suppress(TimeoutError):
                async with asyncio.timeout(SILENCE_S):
                    await self.look(settings, _PATIENT)
        _drop(await self._noted(settings, _PATIENT))

    def _attempted(self, task: "asyncio.Task[None]") -> None:
        self._attempt = None
        retrieve(task)  # whoever waited has it

    async def _noted(self, settings: Mapping[str, str], timeouts: Timeouts) -> Any:
        try:
            made = await self._reached(settings, timeouts)
        except asyncpg.TooManyConnectionsError:
            raise  # the server is there; those who wait for it know how
        except BaseException:  # cut off by a caller that had less patience, too
            self._pause.failed()
            raise
        self._pause.succeeded()
        return made

    async def _reached(self, settings: Mapping[str, str], timeouts: Timeouts) -> Any:
        servers = self.servers
        attempts = [partial(self._tried, server, settings, timeouts) for server in servers]
        try:
            made, server = await first_of(attempts, SILENCE_S, lambda found: _drop(found[0]), AGAIN_S)
        except AllFailed as failed:
            raise none_left([server.place for server in servers], failed.errors) from failed
        self._servers.sort(key=lambda each: each is not server)
        return made

    async def _tried(
        self, server: Server, settings: Mapping[str, str], timeouts: Timeouts
    ) -> tuple[Any, Server]:
        return await self.connect_to(server, settings, timeouts), server

    async def _login(
        self, server: Server, address: Address | None, settings: Mapping[str, str], timeouts: Timeouts
    ) -> Any:
        loop: Any = DiallingLoop(asyncio.get_running_loop(), address, self._url.probes)
        async with asyncio.timeout(timeouts.connect_s):
            connection = await asyncpg.connect(
                server.url,
                loop=loop,
                timeout=timeouts.connect_s,
                command_timeout=timeouts.command_s,
                connection_class=self.connection_class,
                target_session_attrs=self.role,
                max_cached_statement_lifetime=0,
                statement_cache_size=_STATEMENTS if settings else 0,
            )
            try:
                await self._made_ours(connection, settings)
            except BaseException:
                connection.terminate()
                raise
        return connection

    async def _made_ours(self, connection: Any, settings: Mapping[str, str]) -> None:
        if settings:  # without any, nothing is prepared: behind some poolers no statement may be
            await prepare(connection, self._named(settings), self.schema)
        for check in self.checks:
            await check(connection)

    def _named(self, settings: Mapping[str, str]) -> Mapping[str, str]:
        if not self._url.application_name:
            return settings
        ours = settings[_APPLICATION].removeprefix(_OURS)
        return {**settings, _APPLICATION: self._url.application_name + ours}


_STATEMENTS: Final = 100
"""asyncpg's own number of statements that a connection keeps prepared."""
_PATIENT: Final = Timeouts(connect_s=5.0, command_s=6.0)


def connector_of(given: "str | Connector", schema: str) -> Connector:
    """A connector, made of a URL where there is none to share."""
    return Connector(given, schema) if isinstance(given, str) else given


def _drop(connection: Any) -> None:
    connection.terminate()


def _telling(errors: Sequence[Exception]) -> Exception:
    """Of the errors of a server's addresses, that of one that answered: the others may not be in use."""
    return next((error for error in errors if not isinstance(error, OSError)), errors[0])


async def _as_it_is(connection: object) -> None:
    """Reset nothing when a connection returns to its pool: no statement here changes its session, and
    asyncpg's own reset would be a round trip for each statement."""
