"""Counts failed attempts by the address that they come from."""

import time
from typing import Final

MOST_FAILURES: Final = 20
MOST_KEPT: Final = 1000
WITHIN_S: Final = 60.0


class Attempts:
    """Failures of the last minute."""

    def __init__(self) -> None:
        self._failures: list[tuple[str, float]] = []

    def may_try(self, client: str) -> bool:
        """True if not too many failed from this address of late."""
        now = time.monotonic()
        self._failures = [(who, at) for who, at in self._failures if now - at < WITHIN_S]
        return sum(who == client for who, _ in self._failures) < MOST_FAILURES

    def note_failure(self, client: str) -> None:
        """Count one from this address."""
        self._failures = [*self._failures[-MOST_KEPT:], (client, time.monotonic())]
