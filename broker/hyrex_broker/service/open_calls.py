"""Bounds the calls that need no token (health and reflection), which anybody can make.

gRPC has one limit for the messages of all methods, 16 MiB. So one of these calls is received at a time, and
of each connection only one waits. A proper call has arrived together with its headers; one that is still
arriving is ended when another waits.
"""

import asyncio
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final
from weakref import WeakValueDictionary

from hyrex_broker.domain.errors import ArrivesSlowly, FlowControl, InvalidField
from hyrex_broker.service.receiving import EOF, Context

OPEN_SERVICES: Final = (
    "/grpc.health.v1.Health/",
    "/grpc.reflection.v1alpha.ServerReflection/",
    "/grpc.reflection.v1.ServerReflection/",
)
MOST_BYTES: Final = 4096
MOST_WAITING: Final = 5000
MOST_STREAMS: Final = 1000
MOST_STREAMS_EACH: Final = 10
"""For one connection: it watches the health of a handful of services."""
LONGEST_READ_S: Final = 0.1


class OpenCalls:
    """All calls of one such service."""

    def __init__(self) -> None:
        self._one_of_all = asyncio.Lock()
        self._one_of: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        self._asking = 0
        self._streams: Counter[str] = Counter()
        self._overdue_timers: dict[asyncio.Timeout, asyncio.TimerHandle] = {}

    async def read(self, context: Any, peer: str) -> Any:
        """The next message or EOF. Raises InvalidField for a large one, FlowControl if too many
        wait, ArrivesSlowly."""
        if self._asking >= MOST_WAITING:
            raise FlowControl("too many calls without a token at a time; repeat it", _limit(MOST_WAITING))
        mine = self._one_of.setdefault(peer, asyncio.Lock())
        self._asking += 1
        try:
            async with mine, self._one_of_all:
                return await self._read_one(context)
        finally:
            self._asking -= 1

    read_first = read

    def give(self, peer: str, size: int) -> None:
        """Small messages are not counted."""

    @contextmanager
    def stream(self, context: Context) -> Iterator[None]:
        """A place for a call that lasts. Raises FlowControl."""
        peer = context.peer()
        mine, total = self._streams[peer], self._streams.total()
        if mine >= MOST_STREAMS_EACH or total >= MOST_STREAMS:
            raise FlowControl(
                f"{mine} streams without a token on this connection, {total} in all; the limits are"
                f" {MOST_STREAMS_EACH} and {MOST_STREAMS}",
                _limit(MOST_STREAMS_EACH),
            )
        self._streams[peer] += 1
        try:
            yield
        finally:
            self._streams[peer] -= 1
            if not self._streams[peer]:
                del self._streams[peer]

    async def _read_one(self, context: Any) -> Any:
        limit = asyncio.timeout(None)
        try:
            async with limit:
                self._look_later(limit)
                body = await context.read()
        except TimeoutError:
            raise ArrivesSlowly(1) from None
        finally:
            self._overdue_timers.pop(limit).cancel()
        if body is EOF or len(body) <= MOST_BYTES:
            return body
        size = f"{len(body)} bytes"
        del body  # before the next one is received
        raise InvalidField("message", size, f"calls without a token may have {MOST_BYTES} bytes")

    def _look_later(self, limit: asyncio.Timeout) -> None:
        later = asyncio.get_running_loop().call_later
        self._overdue_timers[limit] = later(LONGEST_READ_S, self._overdue, limit)

    def _overdue(self, limit: asyncio.Timeout) -> None:
        """End a call that has taken too long to arrive, if others wait."""
        if self._asking < 2:
            self._look_later(limit)
        else:
            limit.reschedule(asyncio.get_running_loop().time())


def _limit(number: int) -> dict[str, str]:
    return {"limit": str(number)}
