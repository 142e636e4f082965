"""Compares the database's clock with this machine's, to notice jumps and measure the time really passed.

Deadlines are database time. If that clock is set, or its machine was asleep, runs must not become overdue,
nor sessions expire, before their time (rule 8).
"""

import logging
import time
from datetime import UTC, datetime
from typing import Final

log = logging.getLogger(__name__)

JUMP_S: Final = 3.0
_MOST: Final = 100


class DatabaseClock:
    """The observations of one database's clock."""

    def __init__(self) -> None:
        self._seen: tuple[float, float] | None = None
        self._jumps: list[tuple[float, float]] = []
        """(a time of the database between before and after, seconds), the latest of them."""

        self._steady_since_s: float | None = None
        self.jump_count = 0
        """How often it jumped. All that rely on it compare this number, since any of them may notice a
        jump."""
        self.jumped_s = 0.0
        """The sum of all its jumps in seconds; negative if it went back."""

    def observe(self, now_s: float) -> None:
        """Note the database's time (Unix seconds)."""
        monotonic_s = time.monotonic()
        before, self._seen = self._seen, (now_s, monotonic_s)
        if before is None:
            return
        jump_s = (now_s - before[0]) - (monotonic_s - before[1])
        if abs(jump_s) <= JUMP_S:
            return
        log.warning("the database's clock jumped", extra={"seconds": round(jump_s, 1)})
        self._jumps = [*self._jumps[1 - _MOST :], (now_s - jump_s / 2, jump_s)]
        self._steady_since_s = now_s
        self.jump_count += 1
        self.jumped_s += jump_s

    def steady_since(self, now: datetime) -> datetime | None:
        """Note the database's time; return since when its clock has not jumped, None if it never did here."""
        self.observe(now.timestamp())
        return None if self._steady_since_s is None else datetime.fromtimestamp(self._steady_since_s, UTC)

    def passed_s(self, since_s: float, now_s: float) -> float:
        """Return how long it really was from one time of the database to another, as far as is known here."""
        return now_s - since_s - sum(jump_s for at_s, jump_s in self._jumps if since_s < at_s <= now_s)
