"""Lists that the terminal shows whole: page after page."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, Final

from hyrex.cli import connection

if TYPE_CHECKING:
    import grpc.aio

PAGE: Final = 1000

Rpc = Callable[[Any], Awaitable[Any]]


def ask_every(url: str, rpc: "Callable[[grpc.aio.Channel], Rpc]", request: Any, field: str) -> list[Any]:
    """All items of a list: those in `field` of each page's answer. Raises: CommandError.

    Each page has the time of a call, however many there are. Fills in size and token of the request.
    """
    return connection.ask(url, lambda channel: _every(rpc(channel), request, field), None)


async def _every(rpc: Rpc, request: Any, field: str) -> list[Any]:
    request.page_size, request.page_token = PAGE, ""
    found: list[Any] = []
    while True:
        async with asyncio.timeout(connection.CALL_TIMEOUT_S):
            answer = await rpc(request)
        found += getattr(answer, field)
        if not answer.next_page_token:
            return found
        request.page_token = answer.next_page_token
