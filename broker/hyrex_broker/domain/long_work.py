"""Work that may be long, done on the event loop without holding it.

How much there is to match or to count is the doing of clients. What loops over all lanes, queues or sessions
goes through this, so that however many they are, others wait a few milliseconds.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Iterable
from typing import Final, TypeVar

Item = TypeVar("Item")

_LONGEST_S: Final = 0.005
_BETWEEN_LOOKS: Final = 64
"""Items between looks at the clock, each of which costs what a match costs."""


async def in_portions(items: Iterable[Item], between_looks: int = _BETWEEN_LOOKS) -> AsyncIterator[Item]:
    """Yield the items; every few milliseconds everything else that is ready on the loop runs in between."""
    began = time.monotonic()
    for count, item in enumerate(items, 1):
        yield item
        if count % between_looks == 0 and time.monotonic() - began > _LONGEST_S:
            await asyncio.sleep(0)
            began = time.monotonic()
