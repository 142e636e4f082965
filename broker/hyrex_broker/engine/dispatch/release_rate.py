"""How fast leases of this broker end, to decide whether waiting a moment will free enough slots."""

import asyncio
import math
import time
from typing import Final

_SPAN_S: Final = 0.1
_ASSUMED_SPAN_S: Final = 1.0
_IDLE_S: Final = 0.05


class ReleaseRate:
    """Leases that end per second, averaged so that a lease that ended 0.1 s ago counts a third.

    When work begins after a pause, nothing has ended lately. Then the rate of the last work is assumed, until
    a wait for it was in vain.
    """

    def __init__(self) -> None:
        self._rate = 0.0
        self._assumed = 0.0
        self._at = time.monotonic()
        self._next = asyncio.Event()

    @property
    def per_s(self) -> float:
        """The rate to expect now."""
        return max(self._assumed, self._faded(time.monotonic()))

    def ended(self, count: int) -> None:
        """Note that so many leases have ended."""
        now = time.monotonic()
        self._rate = self._faded(now) + count / _SPAN_S
        busy_s = min(now - self._at, _IDLE_S)
        self._assumed = max(self._rate, self._assumed * math.exp(-busy_s / _ASSUMED_SPAN_S))
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
            self._assumed = 0.0
            return False
        return True
