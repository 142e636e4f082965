"""Slots lent while their runs block in a wait: how many, and when no more may be.

A run that waits for another task holds its slot and does nothing; a substitute child runs that
other task meanwhile. At most as many substitutes as there are children.
"""

from __future__ import annotations

import time

from hyrex.worker.process import ChildProcess

_LINGER_S = 10.0


class Lending:
    """Counts the lent slots of a pool."""

    def __init__(self, children: int, slots: int) -> None:
        """For a pool of so many children with so many slots each."""
        self._children = children
        self._slots = slots
        self._lent = 0
        self._most_lately = 0
        self._lately = 0.0

    @property
    def substitutes(self) -> int:
        """Children that may run beside the usual ones now."""
        return min(self._children, -(-self._lent // self._slots))

    def kept(self) -> int:
        """Substitutes worth keeping alive: waits tend to come again."""
        now = time.monotonic()
        if self.substitutes >= self._most_lately or now - self._lately > _LINGER_S:
            self._most_lately, self._lately = self.substitutes, now
        return self._most_lately

    def ask(self, child: ChildProcess, request: int) -> str:
        """Lend a slot of this child for its wait of that number; why not, if it may not be lent."""
        usual = self._children * self._slots
        if self._lent + 1 >= 2 * usual:
            return (
                f"{self._lent} runs of this worker wait for other tasks already; it has {usual} slots and "
                f"starts {usual} substitutes at most, so one more wait could never end. "
                "Use more processes, or `await` in an async task."
            )
        self._lent += 1
        child.lent.add(request)
        return ""

    def resume(self, child: ChildProcess, request: int) -> None:
        """That wait is over, whether or not a slot was lent for it."""
        if request in child.lent:
            child.lent.remove(request)
            self._lent -= 1

    def bury(self, child: ChildProcess) -> None:
        """A child died with its waits."""
        self._lent -= len(child.lent)
        child.lent.clear()
