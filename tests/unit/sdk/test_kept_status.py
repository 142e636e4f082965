"""A call that is refused ends with the status that the broker gave, also where a write meets its end.

The status is made to lie ready in gRPC while the loop that would take it is about to write.
"""

import asyncio
import gc
import threading
import time
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import grpc
import grpc.aio
import pytest
from google.protobuf.duration_pb2 import Duration

from hyrex.transport.calls import Calls
from hyrex.transport.channel import open_address, parse_url
from hyrex.transport.errors import CallFailed, CallFailure, call_failure
from hyrex.transport.kept_status import keep_status
from tests.support.scripted_tasks import refuse

TOKEN_INVALID = ("UNAUTHENTICATED", "TOKEN_INVALID", None)
FLOW_CONTROL = ("RESOURCE_EXHAUSTED", "FLOW_CONTROL", 7)
WITHIN_S = 30


@dataclass
class Refusing(grpc.GenericRpcHandler):
    """Ends each call when it is told to, before any of its messages is read."""

    now: threading.Event = field(default_factory=threading.Event)
    ended: threading.Event = field(default_factory=threading.Event)

    def service(self, details: grpc.HandlerCallDetails) -> Any:
        def refused(_: Any, context: grpc.ServicerContext) -> Any:
            context.add_callback(self.ended.set)
            context.send_initial_metadata(())
            self.now.wait(WITHIN_S)
            if details.method.startswith("/busy"):
                refuse(context, grpc.StatusCode.RESOURCE_EXHAUSTED, "FLOW_CONTROL", Duration(seconds=7))
            refuse(context, grpc.StatusCode.UNAUTHENTICATED, "TOKEN_INVALID")

        responses = "unary" if "unary" in details.method else "stream"
        make: Any = getattr(grpc, f"stream_{responses}_rpc_method_handler")
        return make(refused)

    def while_the_loop_is_busy(self) -> None:
        """End the call; its status has reached gRPC's own thread and not yet the loop that calls this."""
        self.now.set()
        assert self.ended.wait(WITHIN_S)
        time.sleep(0.05)  # nothing tells when gRPC has read it; where this is too short a test shows nothing


@pytest.fixture(autouse=True)
def no_collection_in_threads_of_the_server() -> Iterator[None]:
    """One there, about once in sixty, closed coroutines of gRPC's that this loop was about to end."""
    gc.disable()
    yield
    gc.enable()
    gc.collect()


@pytest.fixture(params=[None, "wrong"], ids=["bare", "intercepted"])
async def channel(request: pytest.FixtureRequest, refusing: Refusing) -> AsyncIterator[grpc.aio.Channel]:
    """Both ways to bear a token, to a server that refuses everybody."""
    server = grpc.server(ThreadPoolExecutor(4), [refusing], options=(("grpc.so_reuseport", 0),))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    async with open_address(parse_url(f"grpc://127.0.0.1:{port}")[0], request.param) as channel:
        yield channel
    refusing.now.set()
    server.stop(None).wait(60)


@pytest.fixture
def refusing() -> Refusing:
    """What the channel leads to."""
    return Refusing()


def told(failure: CallFailure) -> tuple[str, str, float | None]:
    return failure.code.name, failure.reason, failure.retry_after_s


@pytest.mark.parametrize(("service", "expected"), [("busy", FLOW_CONTROL), ("any", TOKEN_INVALID)])
async def test_a_write_that_meets_the_end_tells_the_status_that_the_broker_gave(
    channel: Any, refusing: Refusing, service: str, expected: Any
) -> None:
    call = keep_status(channel.stream_stream(f"/{service}/stream")(timeout=WITHIN_S))
    await call.initial_metadata()
    refusing.while_the_loop_is_busy()
    with suppress(asyncio.InvalidStateError, grpc.aio.AioRpcError):
        await call.write(b"x")
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call.read()
    assert told(call_failure(caught.value)) == expected
    assert await call.code() is caught.value.code()


@pytest.mark.parametrize("method", ["/busy/stream", "/busy/unary"])
async def test_messages_of_an_iterator_tell_the_status_that_the_broker_gave(
    channel: Any, refusing: Refusing, method: str
) -> None:
    async def messages() -> AsyncIterator[bytes]:
        yield b"x"
        refusing.while_the_loop_is_busy()
        yield b"x"

    begin = channel.stream_unary if "unary" in method else channel.stream_stream
    call = keep_status(begin(method)(messages(), timeout=WITHIN_S))
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await (call if "unary" in method else call.read())
    assert told(call_failure(caught.value)) == FLOW_CONTROL


async def test_frames_refused_on_their_way_say_why(channel: Any, refusing: Refusing) -> None:
    """Each of these met the end of its call about once in twelve."""
    refusing.now.set()
    for _ in range(100):
        with pytest.raises(CallFailed) as caught:
            await Calls(channel, None).submit([])
        assert told(caught.value.failure) == TOKEN_INVALID


def test_a_write_that_grpc_would_not_begin_still_fails() -> None:
    """Then no status comes by itself: without this one whoever waits for it would wait for ever."""

    class Inner:
        said = ""

        def send_serialized_message(self) -> None: ...

        def receive_serialized_message(self) -> None: ...

        def status(self) -> None: ...

        def done(self) -> bool:
            return bool(self.said)

        def set_internal_error(self, text: str) -> None:
            self.said = text

    class Call:
        _cython_call: Any = Inner()

    call = keep_status(Call())
    call._cython_call.set_internal_error('Failed "execute_batch": (SendMessageOperation,)')
    assert not call._cython_call.done()
    call._cython_call.set_internal_error("Failed grpc_call_start_batch: 8 with grpc_call_error value: 'x'")
    call._cython_call.set_internal_error("Failed grpc_call_start_batch: another")
    assert "8" in call._cython_call.said
