"""Guards surround all four kinds of calls on a real channel."""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import grpc
import grpc.aio
import pytest
from google.rpc.error_details_pb2 import ErrorInfo
from grpc_status import rpc_status

from hyrex.transport.kept_status import keep_status
from hyrex_broker.domain.errors import NoSuchTask, NoWorkflow, QueueNotFound
from hyrex_broker.domain.rights import Scope
from hyrex_broker.domain.tokens import make_token
from hyrex_broker.engine.known_tokens import KnownTokens
from hyrex_broker.service.doors import Doors
from hyrex_broker.service.entry import NO_TOKEN
from hyrex_broker.service.interceptors import Context, errors_interceptor
from hyrex_broker.storage.tokens import StoredToken
from tests.support.loops import end


class NoTokens:
    """A database without tokens."""

    async def all(self) -> list[StoredToken]:
        return []

    async def changed(self, within_s: float) -> list[StoredToken]:
        return []


def guards(token: str) -> tuple[grpc.aio.ServerInterceptor, grpc.aio.ServerInterceptor]:
    """Both guards of a broker that was started with this token."""
    doors = Doors(KnownTokens(NoTokens(), [token]))
    return errors_interceptor(
        doors, {f"/test.Kinds/{kind}": frozenset({Scope.READ}) for kind in KINDS}
    ), doors


Raise = Callable[[], Exception]
KINDS = ("unary_unary", "unary_stream", "stream_unary", "stream_stream", "stream_written")


class Handlers:
    """One handler of each kind; each answers b"ok" or raises what it is given."""

    def __init__(self, error: Raise | None) -> None:
        self.error = error
        self.left = asyncio.Event()

    def step(self) -> bytes:
        if self.error is not None:
            raise self.error()
        return b"ok"

    async def unary_unary(self, request: bytes, context: Context) -> bytes:
        return self.step()

    async def unary_stream(self, request: bytes, context: Context) -> AsyncIterator[bytes]:
        yield self.step()

    async def stream_unary(self, requests: AsyncIterator[bytes], context: Context) -> bytes:
        async for _ in requests:
            pass
        return self.step()

    async def stream_stream(self, requests: AsyncIterator[bytes], context: Context) -> AsyncIterator[bytes]:
        async for _ in requests:
            yield self.step()

    async def stream_written(self, requests: AsyncIterator[bytes], context: Context) -> None:
        async for _ in requests:
            await context.write(self.step())

    async def endless(self, request: bytes, context: Context) -> AsyncIterator[bytes]:
        try:
            yield b"ok"
            await asyncio.Event().wait()
        finally:
            self.left.set()

    def as_service(self) -> grpc.GenericRpcHandler:
        rpcs: dict[str, grpc.RpcMethodHandler[Any, Any]] = {
            "unary_unary": grpc.unary_unary_rpc_method_handler(self.unary_unary),
            "unary_stream": grpc.unary_stream_rpc_method_handler(self.unary_stream),
            "stream_unary": grpc.stream_unary_rpc_method_handler(self.stream_unary),
            "stream_stream": grpc.stream_stream_rpc_method_handler(self.stream_stream),
            "stream_written": grpc.stream_stream_rpc_method_handler(self.stream_written),
            "endless": grpc.unary_stream_rpc_method_handler(self.endless),
        }
        return grpc.method_handlers_generic_handler("test.Kinds", rpcs)


@asynccontextmanager
async def serving(handlers: Handlers, *interceptors: grpc.aio.ServerInterceptor) -> AsyncIterator[Any]:
    server = grpc.aio.server(interceptors=interceptors, options=(("grpc.so_reuseport", 0),))
    server.add_generic_rpc_handlers((handlers.as_service(),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            yield channel
    finally:
        await server.stop(None)


async def call(channel: Any, kind: str, token: str | None = None) -> list[bytes]:
    metadata = () if token is None else (("authorization", token),)
    method = f"/test.Kinds/{kind}"
    if kind == "unary_unary":
        return [await channel.unary_unary(method)(b"", metadata=metadata, timeout=60)]
    if kind == "stream_unary":
        return [await keep_status(channel.stream_unary(method)(iter([b""]), metadata=metadata, timeout=60))]
    if kind == "unary_stream":
        stream = channel.unary_stream(method)(b"", metadata=metadata, timeout=60)
    else:
        stream = keep_status(channel.stream_stream(method)(iter([b""]), metadata=metadata, timeout=60))
    return [response async for response in stream]


async def refusal(channel: Any, kind: str, token: str | None = None) -> tuple[str, ErrorInfo]:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call(channel, kind, token)
    status = rpc_status.from_call(caught.value)
    info = ErrorInfo()
    assert status.details[0].Unpack(info)
    return caught.value.code().name, info


@pytest.mark.parametrize("kind", KINDS)
async def test_a_call_passes_both_guards(kind: str) -> None:
    async with serving(Handlers(None), *guards("secret")) as channel:
        assert await call(channel, kind, "Bearer secret") == [b"ok"]


@pytest.mark.parametrize("kind", KINDS)
async def test_a_broker_error_becomes_its_status(kind: str) -> None:
    handlers = Handlers(lambda: QueueNotFound("nowhere"))
    async with serving(handlers, errors_interceptor()) as channel:
        code, info = await refusal(channel, kind)
    assert (code, info.reason, info.metadata["queue"]) == ("NOT_FOUND", "QUEUE_NOT_FOUND", "nowhere")


@pytest.mark.parametrize(
    ("error", "names_brokers"), [(NoSuchTask("0199"), True), (NoWorkflow("0199"), False)]
)
async def test_only_a_task_that_is_not_found_may_be_found_by_another_broker(
    error: Exception, names_brokers: bool
) -> None:
    guard = errors_interceptor(elsewhere=lambda: ["the-one-beside"])
    async with serving(Handlers(lambda: error), guard) as channel:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await call(channel, "unary_unary")
    assert ("ask the-one-beside" in (caught.value.details() or "")) is names_brokers
    assert "0199" in (caught.value.details() or "")


@pytest.mark.parametrize("kind", KINDS)
async def test_a_defect_is_answered_with_an_incident_that_the_log_names_once(
    kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    handlers = Handlers(lambda: ZeroDivisionError("private detail"))
    with caplog.at_level(logging.ERROR):
        async with serving(handlers, errors_interceptor()) as channel:
            code, info = await refusal(channel, kind)
    assert (code, info.reason) == ("INTERNAL", "INTERNAL")
    logged = [record for record in caplog.records if record.exc_info]
    assert [record.__dict__["incident"] for record in logged] == [info.metadata["incident"]]


@pytest.mark.parametrize("token", [None, "Bearer wrong", "Basic secret", "secret", "Bearer ", ""])
@pytest.mark.parametrize("kind", KINDS)
async def test_a_call_without_the_token_is_refused(kind: str, token: str | None) -> None:
    async with serving(Handlers(None), *guards("secret")) as channel:
        code, info = await refusal(channel, kind, token)
    assert (code, info.reason) == ("UNAUTHENTICATED", "TOKEN_INVALID")


async def test_a_refusal_keeps_nothing_of_the_calls_that_got_it() -> None:
    """An error that is raised twice keeps the frames of both calls, and so do those after them."""
    tokens = KnownTokens(NoTokens(), [])
    doors = Doors(tokens)
    scopes = {f"/test.Kinds/{kind}": frozenset({Scope.READ}) for kind in KINDS}
    running = asyncio.create_task(tokens.run())
    async with serving(Handlers(None), errors_interceptor(doors, scopes), doors) as channel:
        for _ in range(2):
            _, info = await refusal(channel, "unary_unary", f"Bearer {make_token()}")
            assert info.reason == "TOKEN_INVALID"
    await end(running)
    assert NO_TOKEN.__traceback__ is None


async def test_an_unknown_method_is_unimplemented() -> None:
    async with serving(Handlers(None), *guards("secret")) as channel:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await call(channel, "absent/unary_unary")
    assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED


async def test_a_caller_that_leaves_ends_the_servicer_at_once() -> None:
    handlers = Handlers(None)
    async with serving(handlers, errors_interceptor()) as channel:
        stream = channel.unary_stream("/test.Kinds/endless")(b"", timeout=30)
        assert await stream.read() == b"ok"
        stream.cancel()
        await asyncio.wait_for(handlers.left.wait(), 60)
