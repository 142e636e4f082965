"""Calls of the data commands to a broker, and their failures as one clear line."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Annotated, Final, TypeVar

import typer

from hyrex.cli.errors import CommandError
from hyrex.config import DEFAULT_BROKER_URL, read_token

if TYPE_CHECKING:
    import grpc.aio

T = TypeVar("T")
CALL_TIMEOUT_S: Final = 10.0

BrokerUrl = Annotated[
    str,
    typer.Option("--broker-url", envvar="HYREX_BROKER_URL", help="grpc://host:port of a broker."),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")]
DEFAULT_URL = DEFAULT_BROKER_URL


def ask(url: str, call: "Callable[[grpc.aio.Channel], Awaitable[T]]", timeout_s: float = CALL_TIMEOUT_S) -> T:
    """Open a channel, make the call and return its answer. Raises: CommandError."""
    return asyncio.run(_ask(url, call, timeout_s))


async def _ask(url: str, call: "Callable[[grpc.aio.Channel], Awaitable[T]]", timeout_s: float) -> T:
    import grpc.aio

    from hyrex.transport.channel import open_channel
    from hyrex.transport.errors import call_failure

    try:
        channel = open_channel(url, read_token())
    except ValueError as error:
        raise CommandError(str(error), status=2) from None
    async with channel:
        try:
            async with asyncio.timeout(timeout_s):
                return await call(channel)
        except TimeoutError:
            raise CommandError(f"no answer from {url} within {timeout_s:.0f} s") from None
        except grpc.aio.AioRpcError as error:
            failure = call_failure(error)
    if failure.code is grpc.StatusCode.UNAVAILABLE and not failure.reason:
        raise CommandError(
            f"no answer from {url}. Start a broker with `hyrex dev`, or set HYREX_BROKER_URL. "
            f"({failure.message})"
        )
    raise CommandError(failure.message or failure.code.name)
