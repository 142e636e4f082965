"""A connection is closed by its peer's name, and no other one with it."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import grpc
import grpc.aio
import pytest

from hyrex_broker.service.hanging_up import hang_up
from hyrex_broker.service.receiving import Context


class Lasting(grpc.GenericRpcHandler):
    """Calls that tell the name of their peer and then last."""

    def service(self, details: grpc.HandlerCallDetails) -> "grpc.RpcMethodHandler[bytes, bytes]":
        async def last(_: bytes, context: Context) -> AsyncIterator[bytes]:
            yield context.peer().encode()
            await asyncio.Event().wait()

        return grpc.unary_stream_rpc_method_handler(last)


def begun(channel: Any) -> Any:
    """One call of a channel."""
    return channel.unary_stream("/any/thing")(b"", timeout=30)


@pytest.mark.parametrize("host", ["127.0.0.1", "[::1]"])
async def test_only_the_connection_of_that_name_is_closed(host: str) -> None:
    server = grpc.aio.server(options=(("grpc.so_reuseport", 0),))
    server.add_generic_rpc_handlers((Lasting(),))
    address = f"{host}:{server.add_insecure_port(f'{host}:0')}"
    await server.start()
    options = (("grpc.use_local_subchannel_pool", 1),)
    async with (
        grpc.aio.insecure_channel(address, options) as stays,
        grpc.aio.insecure_channel(address, options) as goes,
    ):
        staying, going = begun(stays), begun(goes)
        other, peer = await staying.read(), await going.read()
        assert other != peer
        assert hang_up(peer.decode(), "for a test")
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await going.read()
        assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
        assert not staying.done()
        async with asyncio.timeout(60):
            while hang_up(peer.decode(), "its socket is still open"):  # until the server's thread has noticed
                await asyncio.sleep(0.02)
    await server.stop(None)


@pytest.mark.parametrize(
    "peer", ["", "unix:/tmp/x", "ipv4:127.0.0.1", "ipv4:127.0.0.1:x", "ipv6:%5B::1%5D:1"]
)
def test_a_name_of_no_connection_closes_none(peer: str) -> None:
    assert not hang_up(peer, "for a test")
