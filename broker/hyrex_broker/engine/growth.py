"""Limits how fast a cluster gets new names: queues and lanes are kept for weeks, and any client can make
some."""

import time
from typing import Final

AT_ONCE: Final = 100_000
"""How many new names a broker makes without a pause; each takes 1 KB of memory until it is forgotten."""
PER_S: Final = 1.0


class Growth:
    """The number of names that may still be made; it grows with time."""

    def __init__(self) -> None:
        self._left, self._since = float(AT_ONCE), time.monotonic()

    def take(self, count: int) -> int:
        """As many of these as may be made now."""
        now = time.monotonic()
        self._left, self._since = min(self._left + (now - self._since) * PER_S, AT_ONCE), now
        taken = min(count, int(self._left))
        self._left -= taken
        return taken

    def give_back(self, count: int) -> None:
        """Return what was taken for names that existed already."""
        self._left = min(self._left + count, AT_ONCE)
