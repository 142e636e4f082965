"""Whether the database answers and accepts writes. Known in one place, and logged once at each change.

`away`: vital statements (heartbeats) get no answer. All other statements then fail at once, also those that
wait. `refuses`: it answers, but refused a statement for a reason that lasts (no right, a full disk, a login
that is not accepted any more); that ends only when a trial is accepted.
"""

import logging
import time
from collections.abc import Callable
from typing import Final

from hyrex_broker.domain.errors import StorageUnavailable

log = logging.getLogger(__name__)

SHORTEST_HOLD_S: Final = 1.0
LONGEST_HOLD_S: Final = 30.0
_SOON_AGAIN_S: Final = 60.0


class Availability:
    """What is known of the database. For one event loop."""

    def __init__(self) -> None:
        self.away: str | None = None
        """Why only vital statements are tried; None: all are."""
        self.refuses: str | None = None
        """Why a statement was refused for a reason that lasts; None: none was."""
        self.synchronous: bool | None = None
        """Whether commits wait for a standby; None: not known yet."""
        self._waiting: set[Callable[[], None]] = set()
        self._hold_s = SHORTEST_HOLD_S
        self._refused_at = self._accepted_at = float("-inf")
        self.on_change: Callable[[bool], None] = lambda usable: None
        """Called at each change, with True if the database is usable."""

    @property
    def usable(self) -> bool:
        """Return True if it answers and refuses nothing."""
        return self.away is None and self.refuses is None

    @property
    def is_due_for_trial(self) -> bool:
        """Return True if it refuses, and it is time to try again."""
        return self.refuses is not None and time.monotonic() >= self._refused_at + self._hold_s

    def answered(self) -> None:
        """Note that a vital statement was answered."""
        if self.away is not None:
            self.away = None
            self._say_back()

    def unanswered(self, why: str) -> bool:
        """Note that a vital statement was not answered. Return True if the one before was."""
        was, self.away = self.away, why
        if was is None:
            log.warning("the database is away; waiting for it", extra={"error": why})
            self.on_change(False)
            for told in list(self._waiting):
                told()
        return was is None

    def refused(self, error: StorageUnavailable) -> None:
        """Note that a statement was refused for a reason that lasts."""
        was, self.refuses = self.refuses, error.message
        if was is not None:
            return
        now = time.monotonic()
        again = now < self._accepted_at + _SOON_AGAIN_S
        self._hold_s = min(2 * self._hold_s, LONGEST_HOLD_S) if again else SHORTEST_HOLD_S
        self._refused_at = now
        log.error("the database refuses; waiting until that is mended", extra={"error": error.message})
        self.on_change(False)

    def accepted(self) -> None:
        """Note that a trial was accepted."""
        if self.refuses is not None:
            self.refuses = None
            self._accepted_at = time.monotonic()
            self._say_back()

    def replicates(self, *, synchronous: bool) -> None:
        """Note whether commits wait for a standby. What was so at the start has been said there."""
        was, self.synchronous = self.synchronous, synchronous
        if was is None or was == synchronous:
            return
        if synchronous:
            log.warning("replication is synchronous again: a failover keeps what is acknowledged from now on")
        else:
            log.warning("replication is not synchronous any more: a failover can lose acknowledged tasks")

    def _say_back(self) -> None:
        if self.usable:
            log.warning("the database is back")
            self.on_change(True)

    def check(self) -> None:
        """Raise StorageUnavailable while the database is away."""
        if self.away is not None:
            raise StorageUnavailable(self.away)

    def tell_when_lost(self, told: Callable[[], None]) -> None:
        """Call `told` when the database goes away, until `tell_no_more`."""
        self._waiting.add(told)

    def tell_no_more(self, told: Callable[[], None]) -> None:
        """Do not call it any more."""
        self._waiting.discard(told)
