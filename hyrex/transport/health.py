"""Asks a broker whether it serves (grpc.health.v1). In plain bytes, to load no generated code for it."""

import asyncio
from typing import Any, Final

import grpc
import grpc.aio

from hyrex.transport.cancels import is_ours

__all__ = ["CHECK_WITHIN_S", "CONNECT_WITHIN_S", "Health", "check", "serves"]

CHECK_WITHIN_S: Final = 1.0
CONNECT_WITHIN_S: Final = 1.0
METHOD: Final = "/grpc.health.v1.Health/Check"
SERVING: Final = b"\x08\x01"  # HealthCheckResponse.status = SERVING
UNTOLD: Final = frozenset({grpc.StatusCode.UNIMPLEMENTED, grpc.StatusCode.UNAUTHENTICATED})


class Health:
    """The health of a broker. `answers`: it has answered; `serves`: it takes calls, or does not say."""

    __slots__ = ("answers", "serves")

    def __init__(self, *, answers: bool, serves: bool) -> None:
        self.answers = answers
        self.serves = serves


async def check(channel: grpc.aio.Channel) -> Health:
    """Ask once. Never raises; no answer in time makes `answers` False.

    If the service is missing (another program listens there, or an old broker), it counts as serving.
    """
    call: Any = channel.unary_unary(METHOD)
    try:
        # Besides the call's own deadline, which needs gRPC's threads, and these may be blocked.
        async with asyncio.timeout(2 * CHECK_WITHIN_S):
            said = await call(b"", timeout=CHECK_WITHIN_S)
        return Health(answers=True, serves=said == SERVING)
    except grpc.aio.AioRpcError as error:
        return Health(answers=False, serves=error.code() in UNTOLD)
    except TimeoutError:
        return Health(answers=False, serves=False)
    except asyncio.CancelledError:
        if is_ours():
            raise
        return Health(answers=False, serves=False)  # the channel was closed


async def serves(channel: grpc.aio.Channel) -> bool:
    """Connect and ask. Return False as soon as that has failed or takes too long."""
    try:
        async with asyncio.timeout(CONNECT_WITHIN_S):
            while (state := channel.get_state(try_to_connect=True)) is not grpc.ChannelConnectivity.READY:
                if state is grpc.ChannelConnectivity.TRANSIENT_FAILURE:
                    return False
                await channel.wait_for_state_change(state)
    except TimeoutError:
        return False
    return (await check(channel)).serves
