"""How long to wait before the next attempt to connect: longer after each failure, never the same twice."""

import time
from typing import Final

from hyrex_broker.domain.pauses import growing_s

FIRST_S: Final = 0.1
LONGEST_S: Final = 1.0
"""Sends succeed within 3 s of a promotion: a server that is silent takes most of that."""


class Pause:
    """The pause between failed attempts."""

    def __init__(self) -> None:
        self.failures = 0
        self._until = 0.0

    @property
    def left_s(self) -> float:
        """Seconds that are left of it."""
        return max(0.0, self._until - time.monotonic())

    def failed(self) -> None:
        """Note a failure. Several at once, of attempts that began together, count as one."""
        if self.left_s:
            return
        self._until = time.monotonic() + growing_s(FIRST_S, self.failures, LONGEST_S)
        self.failures += 1

    def succeeded(self) -> None:
        """Note a success: there is no pause any more."""
        self.failures, self._until = 0, 0.0
