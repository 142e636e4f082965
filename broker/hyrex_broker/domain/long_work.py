"""Does long work on the event loop without blocking it.

How many lanes, queues or sessions there are depends on clients. Loops over all of them go through this, so
that other work on the event loop waits only a few milliseconds.
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
