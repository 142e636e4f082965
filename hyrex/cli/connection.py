"""The calls of commands to a broker. Failures become one line of text."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Annotated, Any, Final, TypeVar

import typer

from hyrex.address import trusted_url
from hyrex.cli.cells import given_or_cells, given_or_one_cell
from hyrex.cli.errors import CommandError
from hyrex.config import DEFAULT_BROKER_URL, read_token

if TYPE_CHECKING:
    import grpc.aio

T = TypeVar("T")
CALL_TIMEOUT_S: Final = 10.0

_URL: Final[Any] = {"envvar": "HYREX_BROKER_URL", "help": "grpc://host:port of a broker."}
BrokerUrl = Annotated[str, typer.Option("--broker-url", **_URL, callback=given_or_one_cell)]
CellsUrl = Annotated[str, typer.Option("--broker-url", **_URL, callback=given_or_cells)]
"""For commands that find the cell of a queue or a task by themselves."""
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")]
DEFAULT_URL: Final = DEFAULT_BROKER_URL


def ask(
    url: str,
    call: "Callable[[grpc.aio.Channel], Awaitable[T]]",
    timeout_s: float | None = CALL_TIMEOUT_S,
    *,
    with_token: bool = True,
) -> T:
    """Make the call at a broker of the list, and return its answer. Raises: CommandError.

    If several are listed, one that does not serve is skipped, and the call may be made twice. Without
    `timeout_s` the call itself bounds how long it waits, by CALL_TIMEOUT_S for each answer.
    """
    return asyncio.run(_ask(url, call, timeout_s, with_token))


def ask_admin(url: str, method: str, request: Any, timeout_s: float = CALL_TIMEOUT_S) -> Any:
    """The answer of one RPC of AdminService. Raises: CommandError."""
    from hyrex.v1 import admin_service_pb2_grpc

    async def call(channel: "grpc.aio.Channel") -> Any:
        return await getattr(admin_service_pb2_grpc.AdminServiceStub(channel), method)(request)

    return ask(url, call, timeout_s)


def delete(url: str, call: "Callable[[grpc.aio.Channel], Awaitable[Any]]", gone: str) -> None:
    """Make a call that deletes. Raises: CommandError.

    `gone`: the reason of a broker that has no such thing. Told to a repeat it is taken as done, since the
    call before may have deleted it without an answer.
    """
    import grpc.aio

    from hyrex.transport.errors import call_failure

    attempts = 0

    async def counted(channel: "grpc.aio.Channel") -> None:
        nonlocal attempts
        attempts += 1
        try:
            await call(channel)
        except grpc.aio.AioRpcError as error:
            if attempts == 1 or call_failure(error).reason != gone:
                raise

    ask(url, counted)


async def _ask(
    url: str, call: "Callable[[grpc.aio.Channel], Awaitable[T]]", timeout_s: float | None, with_token: bool
) -> T:
    import grpc

    from hyrex.transport.any_broker import at_any
    from hyrex.transport.errors import CallFailed

    try:
        token = read_token() if with_token else None
        addresses = trusted_url(url, token)
    except ValueError as error:
        raise CommandError(str(error), status=2) from None
    try:
        async with asyncio.timeout(timeout_s):
            return await at_any(addresses, token, call)
    except TimeoutError:
        raise CommandError(f"no answer from {url} within {timeout_s or CALL_TIMEOUT_S:.0f} s") from None
    except CallFailed as error:
        failure = error.failure
    if failure.code is grpc.StatusCode.UNAVAILABLE and not failure.reason:
        raise CommandError(
            f"no answer from {url}. Start a broker with `hyrex dev`, or set HYREX_BROKER_URL. "
            f"({failure.message})"
        )
    wrong_arguments = failure.code is grpc.StatusCode.INVALID_ARGUMENT
    raise CommandError(failure.message or failure.code.name, status=2 if wrong_arguments else 1)
