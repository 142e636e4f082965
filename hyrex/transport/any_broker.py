"""Makes one call at whichever broker of a list serves, for programs that make a call and end."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Final, TypeVar

import grpc
import grpc.aio

from hyrex.transport.cancels import is_ours
from hyrex.transport.channel import Address, open_address, spread
from hyrex.transport.errors import CallFailed, CallFailure, call_failure
from hyrex.transport.health import check, serves
from hyrex.transport.silence import FOR_EVER_S, SilenceWatch

__all__ = ["at_any"]

T = TypeVar("T")
Call = Callable[[grpc.aio.Channel], Awaitable[T]]
AWAY: Final = grpc.StatusCode.UNAVAILABLE


async def at_any(addresses: Sequence[Address], token: str | None, call: Call[T]) -> T:
    """Make the call at one broker after the other until one answers; each is tried once.

    A broker that is unreachable, does not serve, does not answer or refers to another is passed over. So the
    call may be made twice, and must be repeatable. Raises CallFailed.
    """
    failed: CallFailed | None = None
    for address in spread(addresses):
        async with open_address(address, token) as channel:
            try:
                if len(addresses) == 1:
                    return await _answer(call(channel))
                return await _looked_after(address, channel, call)
            except CallFailed as error:
                if not error.failure.repeatable:
                    raise
                failed = error if failed is None or error.failure.reason else failed
    assert failed is not None, "a list of addresses is never empty"
    raise failed


async def _looked_after(address: Address, channel: grpc.aio.Channel, call: Call[T]) -> T:
    if not await serves(channel):
        raise CallFailed(CallFailure(AWAY, f"{address.url} does not serve", "", {}))
    calling = asyncio.ensure_future(_answer(call(channel)))

    def leave() -> None:
        calling.cancel()

    try:
        with SilenceWatch(lambda: check(channel), leave, FOR_EVER_S):
            return await calling
    except asyncio.CancelledError:
        calling.cancel()
        if is_ours():
            raise
        raise CallFailed(CallFailure(AWAY, f"{address.url} does not answer", "", {})) from None


async def _answer(calling: Awaitable[T]) -> T:
    try:
        return await calling
    except grpc.aio.AioRpcError as error:
        raise CallFailed(call_failure(error)) from None
