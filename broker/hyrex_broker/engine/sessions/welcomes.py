"""Limits the rate of Welcomes: when thousands of workers reconnect at once, all other work goes first."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

AT_ONCE: Final = 2
"""How many Hellos are served at once: most hot connections are kept for submits and reports."""
_LONGEST_PAUSE_S: Final = 0.02


class Welcomes:
    """Serves a few Hellos at a time, in their order.

    While more wait, each is followed by a pause as long as it took, so that half of the time is for other
    work.
    """

    def __init__(self) -> None:
        self._places = asyncio.Semaphore(AT_ONCE)
        self._waiting = 0

    @asynccontextmanager
    async def place(self) -> AsyncIterator[None]:
        """A context for serving one Hello; waits until it may be served."""
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
