"""The order in which a worker tries its brokers, and when it returns to its first.

Workers with the same list begin at different brokers. A worker that had to leave its first broker returns to
it later: otherwise, after all brokers were restarted in turn, the last one would have no workers.
"""

import random
from collections.abc import Sequence
from typing import Final

from hyrex.transport.channel import Address, open_address, spread
from hyrex.transport.health import serves

RETURN_AFTER_S: Final = 60.0
LONGEST_RETURN_S: Final = 960.0


class Route:
    """Which broker a worker uses now, and which it tries next."""

    def __init__(self, addresses: Sequence[Address]) -> None:
        self._addresses = spread(addresses)
        self._at = 0
        self._then = 0
        self._return_s = RETURN_AFTER_S

    @property
    def home(self) -> Address:
        """The first broker, to which the worker returns."""
        return self._addresses[0]

    def next(self) -> Address:
        """Move to the next broker; return its address."""
        self._at, self._then = self._then, (self._then + 1) % len(self._addresses)
        return self._addresses[self._at]

    def ended(self, *, was_of_use: bool) -> None:
        """Note that a stream has ended.

        If the first broker says that it serves, but acknowledges nothing, the worker returns to it less and
        less often.
        """
        if self._at == 0:
            self._return_s = RETURN_AFTER_S if was_of_use else min(2 * self._return_s, LONGEST_RETURN_S)

    def look_after_s(self) -> float | None:
        """Seconds until the first broker is asked whether it serves again; None while it is used.

        Random, so that workers do not all return at the same time.
        """
        return random.SystemRandom().uniform(self._return_s / 2, self._return_s) if self._at else None

    async def return_home(self) -> bool:
        """Make the first broker the next one if it serves. Return True if it does."""
        async with open_address(self.home) as channel:
            if not await serves(channel):
                return False
        self._then = 0
        return True
