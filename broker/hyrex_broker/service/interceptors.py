"""The interceptor around every call: the bounds of messages, and the statuses of errors.

What a servicer yields is written here with `context.write`, so that its `finally` runs when its caller
leaves, and not only when the garbage collector finds it. Who may call is decided in `doors.py`.
"""

import asyncio
import inspect
import logging
import secrets
from collections.abc import Callable, Mapping, Sequence
from contextlib import aclosing, nullcontext
from functools import partial
from typing import Any, TypeAlias

import grpc
import grpc.aio
from google.protobuf.message import DecodeError
from google.rpc.status_pb2 import Status

from hyrex_broker.domain.errors import BrokerError, NoSuchTask
from hyrex_broker.domain.futures import retrieve
from hyrex_broker.domain.rights import Scope
from hyrex_broker.service.bodies import decoder
from hyrex_broker.service.callers import ENDS_ITSELF_WITHIN_S
from hyrex_broker.service.entry import REFUSAL, Continuation, Door, Handler
from hyrex_broker.service.errors import abort, defect_status, to_status, undecodable
from hyrex_broker.service.inflight import Budget
from hyrex_broker.service.open_calls import OPEN_SERVICES, OpenCalls
from hyrex_broker.service.receiving import Context, Receiving
from hyrex_broker.service.scopes import SCOPES
from hyrex_broker.service.unread import LARGE_ANSWERS, Unread

__all__ = ["Context", "errors_interceptor"]

log = logging.getLogger(__name__)

Behaviour: TypeAlias = Callable[[Any, Context], Any]


class ErrorsInterceptor(grpc.aio.ServerInterceptor):
    """Reads what calls send within the broker's bounds, and gives every error its status. With `doors`, only
    calls that may come in are served."""

    def __init__(
        self,
        doors: Door | None,
        scopes: Mapping[str, frozenset[Scope]],
        elsewhere: Callable[[], Sequence[str]],
    ) -> None:
        self._doors = doors
        self._scopes = scopes
        self._elsewhere = elsewhere
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
        doors = self._doors if open_calls is None else None
        admit = None if doors is None else partial(doors.admit, self._scopes.get(method, frozenset()))
        lasting = nullcontext if doors is None or not lasts else doors.lasting

        async def received(context: Context) -> Any:
            if admit is not None:
                await admit(context)
            async with lasting():
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
                status = _status_of(error, method, self._elsewhere)
            # Not within the `except`: an error raised there would keep the first one with its frames and
            # their messages, and gRPC keeps the error in a reference cycle with the call.
            return await abort(context, status)

        make: Callable[..., Handler] = getattr(grpc, f"stream_{responses}_rpc_method_handler")
        return make(serve, response_serializer=handler.response_serializer)


def errors_interceptor(
    doors: Door | None = None,
    scopes: Mapping[str, frozenset[Scope]] = SCOPES,
    elsewhere: Callable[[], Sequence[str]] = tuple,
) -> ErrorsInterceptor:
    """Turns BrokerError into its status, and any other error into INTERNAL with an incident id. `doors`: the
    interceptor behind this one that knows who calls; `scopes`: what each method needs; `elsewhere`: brokers
    that may find a task which is not found here."""
    return ErrorsInterceptor(doors, scopes, elsewhere)


def _status_of(error: Exception, method: str, elsewhere: Callable[[], Sequence[str]]) -> Status:
    """The status of a call that an error has ended. An error that is no refusal is logged."""
    refusal = _refusal(error)
    if isinstance(refusal, NoSuchTask) and (names := elsewhere()):
        refusal = NoSuchTask(refusal.metadata["task_id"], carried_by=names)
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


async def _answer(behaviour: Behaviour, request: Any, context: Context) -> Any:
    return await behaviour(request, context)


async def _answer_each(behaviour: Behaviour, request: Any, context: Context) -> None:
    async with aclosing(behaviour(request, context)) as responses:
        async for response in responses:
            await _written(context, response)


async def _written(context: Context, response: Any) -> None:
    """Write a response. A cancellation waits for it, not long: gRPC could then send no status. It may be that
    of a revoked token, whose streams end in time although nobody reads."""
    under_way = asyncio.ensure_future(context.write(response))
    under_way.add_done_callback(retrieve)
    try:
        await asyncio.shield(under_way)
    except asyncio.CancelledError:
        await asyncio.wait({under_way}, timeout=ENDS_ITSELF_WITHIN_S)
        under_way.cancel()
        raise
