"""Who may come in: callers with a token that a cell knows. What it may do, the cells decide for each call.

A call without a token is refused before anything of it is received; with one that the gateway does not know,
it waits unread until a cell has been asked.
"""

import asyncio
import hashlib
import time
from collections import OrderedDict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from contextvars import ContextVar
from typing import Any, Final

import grpc
import grpc.aio

from hyrex.v1 import admin_service_pb2
from hyrex_broker.domain.errors import CellAway, FlowControl, TokenRefused
from hyrex_broker.domain.futures import retrieve
from hyrex_broker.domain.rights import Scope
from hyrex_broker.gateway.cell import ANSWER_WITHIN_S, Passed
from hyrex_broker.gateway.methods import method
from hyrex_broker.gateway.routing import GatewayCells
from hyrex_broker.gateway.search import find
from hyrex_broker.service.entry import NO_TOKEN, REFUSAL, Continuation, Handler, bearer
from hyrex_broker.service.errors import Relayed
from hyrex_broker.service.open_calls import OPEN_SERVICES
from hyrex_broker.service.receiving import Context

KNOWN_FOR_S: Final = 2.0
"""With the time that a broker needs to learn of a revocation, below the five seconds that are promised."""
MOST_KNOWN: Final = 10_000
MOST_ASKING: Final = 100
_UNAUTHENTICATED: Final = grpc.StatusCode.UNAUTHENTICATED.value[0]
_GET_CALLER: Final = method("AdminService", "GetCaller")
_shown: Final[ContextVar[str]] = ContextVar("shown", default="")


class TokenDoor(grpc.aio.ServerInterceptor):
    """Refuses calls without a token that a cell knows, except those of health and reflection."""

    def __init__(self, cells: GatewayCells) -> None:
        self._cells = cells
        self._known: OrderedDict[bytes, float] = OrderedDict()
        """By the hash of a token: when a cell knew it last."""
        self._asking: dict[bytes, asyncio.Task[None]] = {}
        """By the hash of a token: the question to the cells, which all its calls share."""

    async def intercept_service(
        self, continuation: Continuation, handler_call_details: grpc.HandlerCallDetails
    ) -> "Handler | None":
        details: Any = handler_call_details
        handler = await continuation(details)
        if handler is None or details.method.startswith(OPEN_SERVICES):
            return handler
        token = bearer(details.invocation_metadata)
        if not token:
            return REFUSAL
        _shown.set(token)
        return handler

    async def admit(self, scopes: frozenset[Scope], context: Context) -> None:
        """Let a call in. Raises TokenRefused, CellAway, FlowControl."""
        token = _shown.get()
        key = hashlib.sha256(token.encode()).digest()
        known_at = self._known.get(key)
        if known_at is not None and time.monotonic() - known_at < KNOWN_FOR_S:
            return
        try:
            await self._answer(key, token, is_known=known_at is not None)
        except CellAway:
            if known_at is None:  # a token that was good stays so while no cell can say otherwise
                raise
            return
        except TokenRefused:
            self._known.pop(key, None)
            raise
        self._known[key] = time.monotonic()
        self._known.move_to_end(key)
        if len(self._known) > MOST_KNOWN:
            self._known.popitem(last=False)

    @asynccontextmanager
    async def lasting(self) -> AsyncIterator[None]:
        """Nothing: the cells end the calls of a token that ends."""
        yield

    async def _answer(self, key: bytes, token: str, *, is_known: bool) -> None:
        """Wait until the cells have been asked. `is_known`: it was good, so strangers keep it out no more."""
        asking = self._asking.get(key)
        if asking is None:
            if not is_known and len(self._asking) >= MOST_ASKING:
                raise FlowControl("too many unknown tokens at a time; repeat it", {"limit": str(MOST_ASKING)})
            asking = self._asking[key] = asyncio.create_task(self._ask(token))
            asking.add_done_callback(lambda _: self._asking.pop(key))
            asking.add_done_callback(retrieve)
        await asyncio.shield(asking)

    async def _ask(self, token: str) -> None:
        call = Passed((("authorization", f"Bearer {token}"),), ANSWER_WITHIN_S)
        try:
            caller: admin_service_pb2.GetCallerResponse = await find(
                self._cells.all, _GET_CALLER, admin_service_pb2.GetCallerRequest(), call
            )
        except Relayed as error:
            if error.status.code != _UNAUTHENTICATED:
                raise  # of a busy cell, say: that says nothing about the token
            raise TokenRefused(NO_TOKEN.message) from None
        if not caller.enforced:
            raise TokenRefused(
                "a cell behind this gateway asks for no token: give its brokers one, or start the gateway"
                " with --insecure"
            )
