"""How much of what a broker acknowledged a failover may have lost.

A broker renews its row every second. What it had acknowledged before a renewal was committed before it: a new
primary that has the renewal has all of that, and what was acknowledged later may be lost.
"""

from collections import deque
from datetime import datetime
from typing import Final

from hyrex_broker.domain.counters import Acknowledged

_KEPT: Final = 120


class Renewals:
    """The last renewals of one broker's row, each with what was acknowledged before it."""

    def __init__(self) -> None:
        self._renewals: deque[tuple[datetime, Acknowledged]] = deque(maxlen=_KEPT)

    def add(self, seen_at: datetime, before: Acknowledged) -> None:
        """Note one, by the database's time."""
        self._renewals.append((seen_at, before))

    def unreplicated(self, seen_at: datetime | None, now: Acknowledged) -> Acknowledged:
        """The most that may be lost where the new primary has the renewal of that time; None: it lacks the
        row, so that it has nothing of this broker. At least so much, if it lacks more than is kept here."""
        had = [before for at, before in self._renewals if seen_at is not None and at <= seen_at]
        oldest = self._renewals[0][1] if len(self._renewals) == _KEPT else Acknowledged()
        before = had[-1] if had else oldest
        return Acknowledged(now.sends - before.sends, now.ends - before.ends)
