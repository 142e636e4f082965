"""A gRPC server that survives calls of methods whose names are not UTF-8.

grpc.aio decodes the names of unregistered methods in the loop that accepts all calls. A name that is not
UTF-8, which anybody can send, ends that loop, and the server never answers again (grpcio 1.85). Here calls of
unregistered methods are accepted apart from the others, and refused without decoding their names.
"""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

import grpc._cython

_CORE: Final[Any] = grpc._cython.cygrpc  # type: ignore[attr-defined]  # compiled, without types
_ANY_NAME: Final = "/unknown/unknown"


class _Server(_CORE.AioServer):  # type: ignore[misc]
    """Refuses calls of methods that are not registered. All that a broker serves are registered."""

    def _make_request_call_future(self, method: bytes | None) -> "asyncio.Future[Any]":
        if method is not None:
            future: asyncio.Future[Any] = super()._make_request_call_future(method)
            return future
        return asyncio.get_running_loop().create_task(self._refuse_unknown())

    async def _refuse_unknown(self) -> None:
        """Refuse calls until the server stops."""
        loop = asyncio.get_running_loop()
        refusing: set[asyncio.Task[None]] = set()
        while True:
            state = await self._request_call()
            call = _CORE._handle_rpc(_ANY_NAME, _NO_METHODS, (), state, loop, False)
            task = loop.create_task(_CORE._schedule_rpc_coro(call, state, loop, _ANY_NAME))
            refusing.add(task)
            task.add_done_callback(refusing.discard)


_NO_METHODS: Final[Any] = _CORE._MethodResolver([], {})


@contextmanager
def tolerant_servers() -> Iterator[None]:
    """A context in which grpc.aio makes such servers."""
    usual, _CORE.AioServer = _CORE.AioServer, _Server
    try:
        yield
    finally:
        _CORE.AioServer = usual
