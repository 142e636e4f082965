"""Who may come in: callers with a token that a cell knows. What it may do, the cells decide for each call.

A call without a token is refused before anything of it is received; with one that the gateway does not know,
it waits unread until a cell has been asked.
"""

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
from hyrex_broker.domain.rights import Scope
from hyrex_broker.gateway.cell import Passed, answer_within_s
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
_GET_CALLER: Final = method("AdminService", "GetCaller")
_shown: Final[ContextVar[str]] = ContextVar("shown", default="")


class TokenDoor(grpc.aio.ServerInterceptor):
    """Refuses calls without a token that a cell knows, except those of health and reflection."""

    def __init__(self, cells: GatewayCells) -> None:
        self._cells = cells
        self._known: OrderedDict[bytes, float] = OrderedDict()
        """By the hash of a token: when a cell knew it last."""
        self._asking = 0

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
            await self._ask(token, context)
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

    async def _ask(self, token: str, context: Context) -> None:
        if self._asking >= MOST_ASKING:
            raise FlowControl(
                "too many calls with unknown tokens at a time; repeat it", {"limit": str(MOST_ASKING)}
            )
        call = Passed((("authorization", f"Bearer {token}"),), answer_within_s(context))
        self._asking += 1
        try:
            caller: admin_service_pb2.GetCallerResponse = await find(
                self._cells.all, _GET_CALLER, admin_service_pb2.GetCallerRequest(), call
            )
        except Relayed:
            raise TokenRefused(NO_TOKEN.message) from None
        finally:
            self._asking -= 1
        if not caller.enforced:
            raise TokenRefused(
                "a cell behind this gateway asks for no token: give its brokers one, or start the gateway"
                " with --insecure"
            )
