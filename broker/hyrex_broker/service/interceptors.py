"""Interceptors around every call: the token, the bounds of messages, and the statuses of errors.

A call without a token is refused before anything of it is received. What a servicer yields is written here
with `context.write`, so that its `finally` runs when its caller leaves, and not only when the garbage
collector finds it.
"""

import asyncio
import hmac
import inspect
import logging
import secrets
from collections.abc import Awaitable, Callable, Iterable
from contextlib import aclosing, nullcontext
from typing import Any, Final, TypeAlias

import grpc
import grpc.aio
from google.protobuf.message import DecodeError
from google.rpc.status_pb2 import Status

from hyrex_broker.domain.errors import BrokerError, TokenRefused
from hyrex_broker.service.bodies import decoder
from hyrex_broker.service.errors import abort, defect_status, to_status, undecodable
from hyrex_broker.service.hanging_up import TakenBack
from hyrex_broker.service.inflight import Budget
from hyrex_broker.service.open_calls import OPEN_SERVICES, OpenCalls
from hyrex_broker.service.receiving import Context, Receiving
from hyrex_broker.service.unread import LARGE_ANSWERS, Unread

__all__ = ["Context", "auth_interceptor", "errors_interceptor"]

log = logging.getLogger(__name__)

Handler: TypeAlias = "grpc.RpcMethodHandler[Any, Any]"  # a class without [] at runtime
Behaviour: TypeAlias = Callable[[Any, Context], Any]
Continuation: TypeAlias = Callable[[grpc.HandlerCallDetails], "Awaitable[Handler | None]"]


class TokenInterceptor(grpc.aio.ServerInterceptor):
    """Refuses calls without `authorization: Bearer <token>`, except those of health and reflection."""

    def __init__(self, token: str) -> None:
        self._expected = token.encode()

    async def intercept_service(
        self, continuation: Continuation, handler_call_details: grpc.HandlerCallDetails
    ) -> "Handler | None":
        details: Any = handler_call_details
        handler = await continuation(details)
        if handler is None or details.method.startswith(OPEN_SERVICES):
            return handler
        known = hmac.compare_digest(_bearer(details.invocation_metadata), self._expected)
        return handler if known else REFUSAL


class ErrorsInterceptor(grpc.aio.ServerInterceptor):
    """Reads what calls send within the broker's bounds, and gives every error its status."""

    def __init__(self) -> None:
        self._budget = Budget()
        self._unread = Unread()
        self._open_calls = {prefix: OpenCalls() for prefix in OPEN_SERVICES}
        self._known: dict[str, Handler] = {}

    async def intercept_service(
        self, continuation: Continuation, handler_call_details: grpc.HandlerCallDetails
    ) -> "Handler | None":
        handler = await continuation(handler_call_details)
        if handler is None or handler is REFUSAL:
            return handler
        method = handler_call_details.method
        if method not in self._known:
            self._known[method] = self._guarded(handler, method)
        return self._known[method]

    def _guarded(self, handler: Handler, method: str) -> Handler:
        """A handler that reads its messages itself. For gRPC its requests are a stream: gRPC would receive a
        unary request whole before it calls any interceptor, and parse it where errors get no status."""
        streams, lasts = handler.request_streaming, handler.request_streaming or handler.response_streaming
        responses = "stream" if handler.response_streaming else "unary"
        behaviour: Behaviour = getattr(handler, f"{'stream' if streams else 'unary'}_{responses}")
        answer = _answer_each if inspect.isasyncgenfunction(behaviour) else _answer
        decode = decoder(handler.request_deserializer)
        open_calls = self._open_calls.get(method[: method.rfind("/") + 1])
        source = self._budget if open_calls is None else open_calls
        place = open_calls.stream if open_calls is not None and lasts else nullcontext
        if method in LARGE_ANSWERS:
            answer = self._unread.answer

        async def received(context: Context) -> Any:
            with place(context), Receiving(context, decode, source) as messages:
                request = messages if streams else await messages.only()
                return await answer(behaviour, request, context)

        async def serve(_: Any, context: Context) -> Any:
            try:
                return await received(context)
            except grpc.aio.AbortError:
                raise
            except Exception as error:
                if (gone := _write_to_gone_caller(error)) is not None:
                    raise gone from None
                status = _status_of(error, method)
            # Not within the `except`: an error raised there would keep the first one with its frames and
            # their messages, and gRPC keeps the error in a reference cycle with the call.
            return await abort(context, status)

        make: Callable[..., Handler] = getattr(grpc, f"stream_{responses}_rpc_method_handler")
        return make(serve, response_serializer=handler.response_serializer)


def errors_interceptor() -> ErrorsInterceptor:
    """Turns BrokerError into its status, and any other error into INTERNAL with an incident id."""
    return ErrorsInterceptor()


def auth_interceptor(token: str) -> TokenInterceptor:
    """Refuses calls without the token before anything of them is received."""
    return TokenInterceptor(token)


_taken_back: Final = TakenBack()


async def _refuse(_: Any, context: Context) -> None:
    peer = context.peer()  # a call that has ended has none
    try:
        await abort(context, to_status(NO_TOKEN))
    except (grpc.aio.InternalError, asyncio.CancelledError):
        _taken_back.count(peer)
        raise


NO_TOKEN: Final = TokenRefused(
    "the call carries no valid token; send metadata 'authorization: Bearer <token>'"
    " (HYREX_TOKEN) with the token that the broker was started with"
)
REFUSAL: Final[Handler] = grpc.stream_stream_rpc_method_handler(_refuse)
"""As a stream, since gRPC receives nothing of a stream until it is read, and this one never is."""


def _status_of(error: Exception, method: str) -> Status:
    """The status of a call that an error has ended. An error that is no refusal is logged."""
    refusal = _refusal(error)
    if refusal is not None:
        return to_status(refusal)
    incident = secrets.token_hex(6)
    log.error("a call failed unexpectedly", exc_info=error, extra={"incident": incident, "method": method})
    return defect_status(incident)


def _refusal(error: BaseException) -> BrokerError | None:
    """The BrokerError that an error is, or contains: a servicer's task group wraps what its tasks raise."""
    if isinstance(error, BaseExceptionGroup):
        return next((found for inner in error.exceptions if (found := _refusal(inner))), None)
    if isinstance(error, DecodeError):
        return undecodable(error)
    return error if isinstance(error, BrokerError) else None


def _write_to_gone_caller(error: BaseException) -> BaseException | None:
    """The error of a write to a caller that is gone, if there is one. Then there is nothing to answer or
    log."""
    if isinstance(error, BaseExceptionGroup):
        return next((found for inner in error.exceptions if (found := _write_to_gone_caller(inner))), None)
    return error if isinstance(error, grpc.aio.InternalError) else None


def _bearer(metadata: Iterable[tuple[str, str | bytes]] | None) -> bytes:
    for key, value in metadata or ():
        if key == "authorization":
            text = value if isinstance(value, str) else value.decode(errors="replace")
            scheme, _, token = text.partition(" ")
            return token.strip().encode() if scheme.lower() == "bearer" else b""
    return b""


async def _answer(behaviour: Behaviour, request: Any, context: Context) -> Any:
    return await behaviour(request, context)


async def _answer_each(behaviour: Behaviour, request: Any, context: Context) -> None:
    async with aclosing(behaviour(request, context)) as responses:
        async for response in responses:
            await context.write(response)
