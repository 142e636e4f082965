"""How fast leases end here, for those who would rather wait a moment for the room that they make."""

import asyncio
import math
import time
from typing import Final

_SPAN_S: Final = 0.1
_HOPE_SPAN_S: Final = 1.0
_IDLE_S: Final = 0.05


class ReleaseRate:
    """Leases that end in a second: what ended a tenth of a second ago counts a third.

    When work begins anew nothing has ended lately; then the rate of the last work is hoped for, until
    somebody has waited in vain.
    """

    def __init__(self) -> None:
        self._rate = 0.0
        self._hoped = 0.0
        self._at = time.monotonic()
        self._next = asyncio.Event()

    @property
    def per_s(self) -> float:
        """The rate to count on now."""
        return max(self._hoped, self._faded(time.monotonic()))

    def ended(self, count: int) -> None:
        """So many leases have ended."""
        now = time.monotonic()
        self._rate = self._faded(now) + count / _SPAN_S
        busy_s = min(now - self._at, _IDLE_S)
        self._hoped = max(self._rate, self._hoped * math.exp(-busy_s / _HOPE_SPAN_S))
        self._at = now
        self._next.set()
        self._next = asyncio.Event()

    def _faded(self, now: float) -> float:
        return self._rate * math.exp((self._at - now) / _SPAN_S)

    async def more(self, within_s: float) -> bool:
        """Wait until more have ended. Return True if they did within the time."""
        try:
            async with asyncio.timeout(within_s):
                await self._next.wait()
        except TimeoutError:
            self._hoped = 0.0
            return False
        return True
