"""Measures how far a standby is behind."""

from collections import deque
from typing import Final

_MOST_MARKS: Final = 7200
"""An hour: a longer lag counts as one."""


class LagMeter:
    """How far a standby is behind, from positions of the log."""

    def __init__(self) -> None:
        self._marks: deque[tuple[float, int]] = deque(maxlen=_MOST_MARKS)
        self._has_all_until: float | None = None

    def written(self, moment: float, position: int) -> None:
        """Note how far the primary's log was at a moment."""
        self._marks.append((moment, position))

    def lag_s(self, moment: float, replayed: int) -> float:
        """For how long at least the standby has lacked something; 0 if it has all that is known of."""
        while self._marks and self._marks[0][1] <= replayed:
            self._has_all_until, _ = self._marks.popleft()
        return moment - self._marks[0][0] if self._marks else 0.0

    def has_all_but(self, moment: float, seconds: float) -> bool:
        """Return True if it is known to have all that was written until so long before a moment."""
        return self._has_all_until is not None and moment - self._has_all_until <= seconds

    def forget(self) -> None:
        """Nothing is known: what was written meanwhile was not noted."""
        self._marks.clear()
        self._has_all_until = None
