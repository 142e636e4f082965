"""How fast leases end here, for those who would rather wait a moment for the room that they make."""

import asyncio
import math
import time
from typing import Final

_SPAN_S: Final = 0.1


class Turnover:
    """Leases that end in a second: what ended a tenth of a second ago counts a third."""

    def __init__(self) -> None:
        self._per_s = 0.0
        self._at = time.monotonic()
        self._next = asyncio.Event()

    @property
    def per_s(self) -> float:
        """The rate now."""
        return self._per_s * math.exp((self._at - time.monotonic()) / _SPAN_S)

    def ended(self, count: int) -> None:
        """So many leases have ended."""
        self._per_s = self.per_s + count / _SPAN_S
        self._at = time.monotonic()
        self._next.set()
        self._next = asyncio.Event()

    async def more(self, within_s: float) -> bool:
        """Wait until more have ended; whether they did within the time."""
        try:
            async with asyncio.timeout(within_s):
                await self._next.wait()
        except TimeoutError:
            return False
        return True
