"""Who may come in: the token of each call, or the client's certificate, and the scope that the call needs.

A call without a token, or with what cannot be one, is refused before anything of it is received. Where the
broker has to look into the database for a token that it does not know, the call waits, still unread.
"""

import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from contextvars import ContextVar
from typing import Any, Final

import grpc
import grpc.aio

from hyrex_broker.domain.errors import RightMissing, TokenRefused
from hyrex_broker.domain.rights import Scope
from hyrex_broker.engine.known_tokens import KnownTokens, OpenStream, Undecided
from hyrex_broker.service.callers import Lasting, current_caller, set_caller, set_lasting, token_ended
from hyrex_broker.service.entry import NO_TOKEN, REFUSAL, Continuation, Handler, bearer, taken_back
from hyrex_broker.service.open_calls import OPEN_SERVICES
from hyrex_broker.service.receiving import Context

_SAN: Final = "x509_subject_alternative_name"
_undecided: Final[ContextVar[Undecided | None]] = ContextVar("undecided", default=None)


class Doors(grpc.aio.ServerInterceptor):
    """Refuses calls without `authorization: Bearer <token>`, except those of health and reflection.

    `by_certificate`: a call without a token has the rights of the token that its client's certificate names.
    """

    def __init__(self, tokens: KnownTokens, *, by_certificate: bool = False) -> None:
        self._tokens = tokens
        self._by_certificate = by_certificate

    async def intercept_service(
        self, continuation: Continuation, handler_call_details: grpc.HandlerCallDetails
    ) -> "Handler | None":
        details: Any = handler_call_details
        handler = await continuation(details)
        if handler is None or details.method.startswith(OPEN_SERVICES):
            return handler
        token = bearer(details.invocation_metadata)
        if token is None and self._by_certificate:
            _undecided.set(Undecided())
            return handler
        decision = None if token is None else self._tokens.decision(token)
        if decision is None:
            return REFUSAL
        if isinstance(decision, Undecided):
            _undecided.set(decision)
        else:
            set_caller(decision)
        return handler

    async def admit(self, scopes: frozenset[Scope], context: Context) -> None:
        """Let a call in that needs one of these scopes. Raises TokenRefused, RightMissing,
        StorageUnavailable."""
        asked = _undecided.get()
        if asked is not None:
            await self._decide(asked, context)
        caller = current_caller()
        if scopes.isdisjoint(caller.scopes):
            raise RightMissing(caller.name, next(iter(scopes), "of a later version"))

    async def _decide(self, asked: Undecided, context: Context) -> None:
        by_name = not asked.hash
        if by_name:
            asked = Undecided(names=tuple(_names(context)))
        peer = context.peer()
        try:
            caller = await self._tokens.decide(asked) if asked.hash or asked.names else None
        except asyncio.CancelledError:
            taken_back.count(peer)
            raise
        if caller is None:
            raise _no_token_of(asked.names) if by_name else TokenRefused(NO_TOKEN.message)
        set_caller(caller)

    @asynccontextmanager
    async def lasting(self) -> AsyncIterator[None]:
        """Around a call that lasts: it is ended when its caller's token ends. Raises TokenRefused then."""
        limit = asyncio.timeout(None)
        now = asyncio.get_running_loop().time
        lasting = Lasting(lambda seconds: limit.reschedule(now() + seconds))
        stream = OpenStream(current_caller(), lasting.end)
        set_lasting(lasting)
        try:
            async with limit:
                self._tokens.open(stream)
                try:
                    yield
                finally:
                    self._tokens.close(stream)
        except TimeoutError:
            if limit.expired():
                raise token_ended() from None
            raise


def _no_token_of(names: Iterable[str]) -> TokenRefused:
    shown = ", ".join(map(repr, names)) or "no subject alternative name"
    return TokenRefused(
        f"the call carries no token, and its client's certificate has {shown}, for which there is none; make"
        " one of that name with `hyrex token create`"
    )


def _names(context: Any) -> Iterable[str]:
    """The subject alternative names of the client's certificate, which gRPC has verified."""
    return (name.decode(errors="replace") for name in context.auth_context().get(_SAN, ()))
