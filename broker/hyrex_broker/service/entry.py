"""What every door has: how a call shows a token, and how one without is refused before it is read."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from contextlib import AbstractAsyncContextManager
from typing import Any, Final, Protocol, TypeAlias

import grpc
import grpc.aio

from hyrex_broker.domain.errors import TokenRefused
from hyrex_broker.domain.rights import Scope
from hyrex_broker.service.errors import abort, to_status
from hyrex_broker.service.hanging_up import TakenBack
from hyrex_broker.service.receiving import Context

Handler: TypeAlias = "grpc.RpcMethodHandler[Any, Any]"  # a class without [] at runtime
Continuation: TypeAlias = Callable[[grpc.HandlerCallDetails], "Awaitable[Handler | None]"]

taken_back: Final = TakenBack()


class Door(Protocol):
    """Decides who comes in, beside being an interceptor of its own."""

    async def admit(self, scopes: frozenset[Scope], context: Context) -> None:
        """Let a call in that needs one of these scopes. Raises a BrokerError."""
        ...

    def lasting(self) -> AbstractAsyncContextManager[None]:
        """Around a call that lasts."""
        ...


async def _refuse(_: Any, context: Context) -> None:
    peer = context.peer()  # a call that has ended has none
    try:
        await abort(context, to_status(NO_TOKEN))
    except (grpc.aio.InternalError, asyncio.CancelledError):
        taken_back.count(peer)
        raise


NO_TOKEN: Final = TokenRefused(
    "the call carries no valid token; send metadata 'authorization: Bearer <token>' (HYREX_TOKEN) with one"
    " that `hyrex token create` made and that is neither expired nor revoked, or one of the broker's own"
)
REFUSAL: Final[Handler] = grpc.stream_stream_rpc_method_handler(_refuse)
"""As a stream, since gRPC receives nothing of a stream until it is read, and this one never is."""


def bearer(metadata: Iterable[tuple[str, str | bytes]] | None) -> str | None:
    """The token of a call; None if it has none, "" if it has something else."""
    for key, value in metadata or ():
        if key == "authorization":
            text = value if isinstance(value, str) else value.decode(errors="replace")
            scheme, _, token = text.partition(" ")
            return token.strip() if scheme.lower() == "bearer" else ""
    return None
