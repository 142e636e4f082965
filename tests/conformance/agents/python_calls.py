"""The Python agent's calls: made again while a failure is one that the SDK takes for repeatable."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, Final, TypeVar

import grpc.aio

from hyrex.transport.errors import call_failure

T = TypeVar("T")
CALL_WITHIN_S: Final = 10.0
ATTEMPTS: Final = 6
PAUSE_S: Final = 0.02


async def answer_to(method: Any, request: Any) -> Any:
    """What a unary call of a stub is answered. Raises: AioRpcError."""
    return await repeated(lambda: method(request, timeout=CALL_WITHIN_S))


async def repeated(call: Callable[[], Awaitable[T]]) -> T:
    """The result of a call, or of one that is made after it. Raises: AioRpcError."""
    for failures in range(1, ATTEMPTS):
        try:
            return await call()
        except grpc.aio.AioRpcError as error:
            if not call_failure(error).repeatable:
                raise
        await asyncio.sleep(PAUSE_S * 2**failures)
    return await call()
