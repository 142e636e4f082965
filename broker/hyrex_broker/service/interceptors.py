"""What surrounds every call: who may call, and how errors leave.

Each interceptor is a guard, an asynchronous context manager around the servicer's own code, the same
for all four kinds of RPC. A servicer that yields is driven here with `context.write`, so that its
`finally` runs at the moment its caller leaves and not when the garbage collector finds it.
"""

import hmac
import inspect
import logging
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, aclosing, asynccontextmanager
from typing import Any, Final, TypeAlias

import grpc
import grpc.aio
from google.protobuf.message import DecodeError

from hyrex_broker.domain.errors import BrokerError, TokenInvalid
from hyrex_broker.service.errors import abort, defect_status, to_status, undecodable

logger = logging.getLogger(__name__)

Context: TypeAlias = grpc.aio.ServicerContext[Any, Any]
Handler: TypeAlias = "grpc.RpcMethodHandler[Any, Any]"  # a class without [] at runtime
Behaviour: TypeAlias = Callable[[Any, Context], Any]
Guard: TypeAlias = Callable[[str, Context], AbstractAsyncContextManager[None]]

OPEN_SERVICES: Final = (
    "/grpc.health.v1.Health/",
    "/grpc.reflection.v1alpha.ServerReflection/",
    "/grpc.reflection.v1.ServerReflection/",
)


class GuardInterceptor(grpc.aio.ServerInterceptor):
    """Runs every call of the server inside the guard."""

    def __init__(self, guard: Guard) -> None:
        self._guard = guard

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], "Awaitable[Handler | None]"],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> "Handler | None":
        handler = await continuation(handler_call_details)
        if handler is None:
            return None
        return _guarded(handler, handler_call_details.method, self._guard)


def errors_interceptor() -> GuardInterceptor:
    """Turns BrokerError into its status, and any other error into INTERNAL with an incident id."""
    return GuardInterceptor(_errors_to_status)


def auth_interceptor(token: str) -> GuardInterceptor:
    """Refuses calls without `authorization: Bearer <token>`, health and reflection excepted."""
    expected = token.encode()

    @asynccontextmanager
    async def authorised(method: str, context: Context) -> AsyncIterator[None]:
        if not method.startswith(OPEN_SERVICES) and not hmac.compare_digest(_bearer(context), expected):
            raise TokenInvalid(
                "the call carries no valid token; send metadata 'authorization: Bearer <token>'"
                " (HYREX_TOKEN) with the token that the broker was started with"
            )
        yield

    return GuardInterceptor(authorised)


@asynccontextmanager
async def _errors_to_status(method: str, context: Context) -> AsyncIterator[None]:
    try:
        yield
    except grpc.aio.AbortError:
        raise
    except Exception as error:
        refusal = _refusal(error)
        if refusal is not None:
            await abort(context, to_status(refusal))
        if context.cancelled():
            raise  # the caller is gone: a write to it failed, there is nobody to answer
        incident = secrets.token_hex(6)
        logger.exception("a call failed unexpectedly", extra={"incident": incident, "method": method})
        await abort(context, defect_status(incident))


def _refusal(error: BaseException) -> BrokerError | None:
    """The refusal that an error is, or holds: a servicer's task group wraps what its tasks raise."""
    if isinstance(error, BaseExceptionGroup):
        return next((found for inner in error.exceptions if (found := _refusal(inner))), None)
    if isinstance(error, DecodeError):
        return undecodable(error)
    return error if isinstance(error, BrokerError) else None


def _bearer(context: Context) -> bytes:
    for key, value in context.invocation_metadata() or ():
        if key == "authorization":
            text = value if isinstance(value, str) else value.decode(errors="replace")
            scheme, _, token = text.partition(" ")
            return token.strip().encode() if scheme.lower() == "bearer" else b""
    return b""


def _guarded(handler: Handler, method: str, guard: Guard) -> Handler:
    kind, behaviour = _kind_and_behaviour(handler)
    make: Callable[..., Handler] = getattr(grpc, f"{kind}_rpc_method_handler")
    wrap = _wrap_stream if handler.response_streaming else _wrap_unary
    return make(
        wrap(behaviour, method, guard),
        request_deserializer=handler.request_deserializer,
        response_serializer=handler.response_serializer,
    )


def _kind_and_behaviour(handler: Handler) -> tuple[str, Behaviour]:
    requests = "stream" if handler.request_streaming else "unary"
    responses = "stream" if handler.response_streaming else "unary"
    kind = f"{requests}_{responses}"
    return kind, getattr(handler, kind)


def _wrap_unary(behaviour: Behaviour, method: str, guard: Guard) -> Behaviour:
    async def call(request: Any, context: Context) -> Any:
        async with guard(method, context):
            return await behaviour(request, context)

    return call


def _wrap_stream(behaviour: Behaviour, method: str, guard: Guard) -> Behaviour:
    if not inspect.isasyncgenfunction(behaviour):
        return _wrap_unary(behaviour, method, guard)

    async def call(request: Any, context: Context) -> None:
        async with guard(method, context), aclosing(behaviour(request, context)) as responses:
            async for response in responses:
                await context.write(response)

    return call
