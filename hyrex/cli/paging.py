"""Lists that the terminal shows whole: page after page."""

from collections.abc import Awaitable, Callable
from typing import Any, Final

PAGE: Final = 1000


async def every(call: Callable[[Any], Awaitable[Any]], request: Any, field: str) -> list[Any]:
    """All items of a list: those in `field` of each page's answer. Fills in size and token of the request."""
    request.page_size, found = PAGE, list[Any]()
    while True:
        answer = await call(request)
        found += getattr(answer, field)
        if not answer.next_page_token:
            return found
        request.page_token = answer.next_page_token
