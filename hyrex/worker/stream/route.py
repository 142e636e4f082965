"""A worker's way round its brokers: an order of its own, and when to return to the first of it.

Workers with one list begin at different brokers. One that had to leave its first comes back, else
all would sit on the brokers that were restarted last.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Final

from hyrex.transport.channel import Address, open_address, spread
from hyrex.transport.health import serves

RETURN_AFTER_S: Final = 60.0
LONGEST_RETURN_S: Final = 960.0


class Route:
    """Where a worker stands among its brokers."""

    def __init__(self, addresses: Sequence[Address]) -> None:
        self._addresses = spread(addresses)
        self._at = 0
        self._then = 0
        self._return_s = RETURN_AFTER_S

    @property
    def home(self) -> Address:
        """Where it begins, and belongs."""
        return self._addresses[0]

    def next(self) -> Address:
        """Go on to the next broker."""
        self._at, self._then = self._then, (self._then + 1) % len(self._addresses)
        return self._addresses[self._at]

    def ended(self, *, was_of_use: bool) -> None:
        """A stream is over. A first broker that says it serves, and does not, is tried ever less often."""
        if self._at == 0:
            self._return_s = RETURN_AFTER_S if was_of_use else min(2 * self._return_s, LONGEST_RETURN_S)

    def look_after_s(self) -> float | None:
        """When to see whether the first broker serves again, each in its own time; None while there."""
        return random.SystemRandom().uniform(self._return_s / 2, self._return_s) if self._at else None

    async def turn_home(self) -> bool:
        """Make the first broker the next one, if it serves."""
        async with open_address(self.home) as channel:
            if not await serves(channel):
                return False
        self._then = 0
        return True
