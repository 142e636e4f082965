"""One cell, as a gateway asks it: through whichever of its brokers serves, with the caller's own token.

A cell that does not answer is noticed after a second, and then answered for at once until it is back, so that
what waits for it fills no memory and holds nobody up.
"""

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import AbstractContextManager, aclosing, asynccontextmanager
from dataclasses import dataclass
from typing import Any, Final, TypeVar

import grpc
import grpc.aio
from google.rpc.error_details_pb2 import ErrorInfo
from google.rpc.status_pb2 import Status

from hyrex.cells import Cell
from hyrex.transport.calls import Calls
from hyrex.transport.cancels import is_ours
from hyrex.transport.channel import parse_url
from hyrex.transport.connection import BrokerConnection
from hyrex.transport.errors import CallFailed, CallFailure, call_failure
from hyrex.transport.health import check
from hyrex.transport.silence import FOR_EVER_S, SILENCE_S, SilenceWatch
from hyrex_broker.domain.errors import BrokerError, CellAway
from hyrex_broker.gateway.connections import CellConnections
from hyrex_broker.gateway.methods import Method
from hyrex_broker.gateway.room import CellRoom
from hyrex_broker.service.errors import DETAILS_KEY, Relayed
from hyrex_broker.service.receiving import Context
from hyrex_broker.service.requests import patience_s

T = TypeVar("T")
ANSWER_WITHIN_S: Final = 5.0
"""How long an answer of a cell may take, where its caller waits longer."""
_CONNECT_WITHIN_S: Final = 0.25
"""How long a call waits for a cell whose brokers refuse connections: another of them may serve."""
_LOOK_EVERY_S: Final = 0.25
_OWN_KEYS: Final = ("user-agent", "content-type", "te", "host")
_ABSENT: Final = frozenset({grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED})


@dataclass(frozen=True, slots=True)
class Passed:
    """What of a caller's call goes on to the cells: its metadata, the token among them, and its time."""

    metadata: tuple[tuple[str, str | bytes], ...]
    within_s: float


def passed(context: Context) -> Passed:
    """What of this call goes on to the cells."""
    given: Any = context.invocation_metadata() or ()
    metadata = tuple(
        (key, value) for key, value in given if key not in _OWN_KEYS and not key.startswith(("grpc-", ":"))
    )
    return Passed(metadata, answer_within_s(context))


def answer_within_s(context: Context) -> float:
    """How long a cell may take for its answer to this call."""
    caller_s = patience_s(context)
    return ANSWER_WITHIN_S if caller_s is None else min(caller_s, ANSWER_WITHIN_S)


class GatewayCell:
    """Calls to the brokers of one cell."""

    def __init__(self, route: Cell, share_bytes: int) -> None:
        """`share_bytes`: so much may be on its way to it."""
        self.name = route.name
        self.url = route.url
        self.room = CellRoom(self.name, share_bytes, "bytes")
        addresses = parse_url(route.url)
        self._has_others = len(addresses) > 1
        self.connections = CellConnections(lambda: BrokerConnection(addresses, None, lambda: None))
        self._waiting: set[asyncio.Timeout] = set()
        self._looking: asyncio.Task[None] | None = None
        self.is_silent = False
        self._is_up = False
        self.failures = 0
        """How many calls found it away."""
        self.calls = 0

    async def run(self) -> None:
        """Keep it connected, until cancelled."""
        try:
            await self.connections.run()
        finally:
            if self._looking is not None:
                self._looking.cancel()

    @property
    def is_up(self) -> bool:
        """Return True if it was connected and answered when it was last looked at."""
        return self._is_up and not self.is_silent

    @property
    def is_reachable(self) -> bool:
        """Return True if it is connected and answers. Where it is not connected, this has it connect."""
        self._is_up = self.connections.short.usable() is not None
        return self.is_up

    async def ask(self, method: Method, request: Any, call: Passed) -> Any:
        """The answer to a request. Raises CellAway, or Relayed with what the cell says instead."""

        async def once(calls: Calls) -> Any:
            begun: Any = method.on(calls.channel)
            return self._read(await begun(request, timeout=call.within_s, metadata=call.metadata))

        return await self.asked(self.connections.short, once, call.within_s, repeats=method.repeats)

    async def asked(
        self,
        connection: BrokerConnection,
        once: Callable[[Calls], Awaitable[T]],
        within_s: float,
        *,
        repeats: bool,
    ) -> T:
        """What a call returns. `repeats`: it does no harm if it is made again, and is, once, if its
        connection breaks. Raises CellAway, Relayed."""
        ends = time.monotonic() + within_s
        try:
            async with self.reached(connection, within_s) as calls:
                return await once(calls)
        except CellAway as error:
            if not error.is_broken_off or not repeats:
                raise
        async with self.reached(connection, max(0.0, ends - time.monotonic())) as calls:
            return await once(calls)

    @asynccontextmanager
    async def reached(self, connection: BrokerConnection, within_s: float) -> AsyncIterator[Calls]:
        """Around one call: a connection to the cell. What ends the call without an answer is raised as
        CellAway or Relayed; so is silence, and an answer that takes longer than `within_s`."""
        calls = await self._connected(connection, within_s)
        self.calls += 1
        try:
            async with asyncio.timeout(within_s) as limit:
                self._waiting.add(limit)
                try:
                    with self._watched(connection, calls):
                        yield calls
                finally:
                    self._waiting.discard(limit)
            connection.answered()
        except grpc.aio.AioRpcError as error:
            raise self._error(call_failure(error), error) from None
        except CallFailed as error:
            raise self._error(error.failure) from None
        except TimeoutError:
            raise self.away("it does not answer") from None
        except asyncio.CancelledError:
            if is_ours():
                raise
            raise self.away("its connection was closed", is_broken_off=True) from None

    def away(self, why: str, *, is_broken_off: bool = False) -> CellAway:
        """The error of a call that found it away."""
        self.failures += 1
        return CellAway(self.name, why, is_broken_off=is_broken_off)

    async def watch(self, method: Method, request: Any, call: Passed) -> AsyncGenerator[Any, None]:
        """The responses of a call that lasts. Raises CellAway, FlowControl, Relayed."""
        with self.connections.lasting() as connection:
            async with aclosing(self._watch_on(connection, method, request, call)) as responses:
                async for response in responses:
                    yield response

    async def _watch_on(
        self, connection: BrokerConnection, method: Method, request: Any, call: Passed
    ) -> AsyncGenerator[Any, None]:
        calls = await self._connected(connection, call.within_s)
        begun: Any = method.on(calls.channel)(request, metadata=call.metadata)
        try:
            with connection.look_after(calls, is_watch=True):
                async for response in begun:
                    yield self._read(response)
        except grpc.aio.AioRpcError as error:
            raise self._error(call_failure(error), error) from None
        except asyncio.CancelledError:
            if is_ours():
                raise
            raise self.away("its connection was closed", is_broken_off=True) from None
        finally:
            begun.cancel()

    def _read(self, response: Any) -> Any:
        """A response. Raises CellAway where it is none of this method: gRPC gives None then."""
        if response is None:
            raise self.away("it answers what cannot be read")
        return response

    def _error(self, failure: CallFailure, error: Any = None) -> BrokerError:
        if failure.reason or not failure.repeatable:
            if failure.code in _ABSENT:
                return self.away(failure.message)
            return Relayed(_status_of(failure, error))
        return self.away(failure.message or failure.code.name, is_broken_off=True)

    async def _connected(self, connection: BrokerConnection, within_s: float) -> Calls:
        if self.is_silent:
            raise self.away("it does not answer")
        calls = connection.usable()
        if calls is not None:
            return calls
        begun = time.monotonic()
        ends, looks_at = begun + within_s, begun + SILENCE_S
        while (left_s := ends - time.monotonic()) > 0:
            try:
                async with asyncio.timeout(min(left_s, _CONNECT_WITHIN_S)):
                    return await connection.ready()
            except TimeoutError:
                is_refused = connection.is_refused or connection.failure is not None
                if connection is not self.connections.short and not self._has_others:
                    if looks_at <= time.monotonic() or is_refused:
                        looks_at = FOR_EVER_S
                        await self._require_answers(left_s)
                elif is_refused:
                    break
        why = connection.failure.message if connection.failure else f"no broker at {self.url} can be reached"
        raise self.away(why)

    async def _require_answers(self, within_s: float) -> None:
        """Look whether it answers, since a new connection waits for a stopped one. Raises CellAway."""
        calls = await self._connected(self.connections.short, within_s)
        if not (await check(calls.channel)).answers:
            self._fall_silent(calls)
            raise self.away("it does not answer")

    def _watched(self, connection: BrokerConnection, calls: Calls) -> AbstractContextManager[None]:
        """A context for one call, in which silence is noticed: its broker is left, if there is another."""
        if self._has_others:
            return connection.look_after(calls)
        return SilenceWatch(lambda: check(calls.channel), lambda: self._fall_silent(calls), FOR_EVER_S)

    def _fall_silent(self, calls: Calls) -> None:
        """End whatever waits for it, and refuse what is asked of it until it answers."""
        self.is_silent = True
        now = asyncio.get_running_loop().time()
        for limit in self._waiting:
            if not limit.expired():
                limit.reschedule(now)
        if self._looking is None or self._looking.done():
            self._looking = asyncio.create_task(self._look_until_back(calls))

    async def _look_until_back(self, calls: Calls) -> None:
        while self.is_silent:
            await asyncio.sleep(_LOOK_EVERY_S)
            self.is_silent = not (await check(calls.channel)).answers


def _status_of(failure: CallFailure, error: Any) -> Status:
    """The status with which a broker refused a call, with its details if they are known."""
    packed = dict(error.trailing_metadata() or ()).get(DETAILS_KEY) if error is not None else None
    if isinstance(packed, bytes):
        return Status.FromString(packed)
    number, _ = failure.code.value
    status = Status(code=number, message=failure.message)
    if failure.reason:
        status.details.add().Pack(
            ErrorInfo(domain="hyrex.dev", reason=failure.reason, metadata=failure.metadata)
        )
    return status
