"""The pace at which workers are welcomed: when thousands come back at once, everybody else goes first."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

AT_ONCE: Final = 2
"""Hellos that are looked at together: the hot connections are for those who send."""
_LONGEST_PAUSE_S: Final = 0.02


class Welcomes:
    """Lets a few Hellos in at a time, in their order.

    While more wait, each is followed by a pause as long as it took: half of the time at least is for others.
    """

    def __init__(self) -> None:
        self._places = asyncio.Semaphore(AT_ONCE)
        self._waiting = 0

    @asynccontextmanager
    async def place(self) -> AsyncIterator[None]:
        """The time of one welcome."""
        self._waiting += 1
        try:
            await self._places.acquire()
        finally:
            self._waiting -= 1
        began = time.monotonic()
        try:
            yield
            if self._waiting:
                await asyncio.sleep(min(time.monotonic() - began, _LONGEST_PAUSE_S))
        finally:
            self._places.release()
