"""Slots lent while their runs wait for other tasks: how many, and when no more may be.

A sync run that waits holds its slot and does nothing; a substitute child runs the other task
meanwhile. At most as many substitutes as there are children. An async run that awaits holds no
slot: its own child takes another run in its place.
"""

from __future__ import annotations

import time

from hyrex.worker.pool.child_process import ChildProcess
from hyrex.worker.shared.child_options import MOST_AWAITING

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


class AsyncLending(Lending):
    """As Lending, where a child can execute more runs than it has slots."""

    def __init__(self) -> None:
        """For any number of children."""
        self._lenders: set[ChildProcess] = set()

    @property
    def substitutes(self) -> int:
        """Children that must stand in for others: those that wait, and take no other run meanwhile."""
        return sum(1 for child in self._lenders if child.exclusive or child.exhausted)

    def kept(self) -> int:
        """As many as there must be."""
        return self.substitutes

    def ask(self, child: ChildProcess, request: int) -> str:
        """Free the slot of a run that awaits; why not, if it may not be freed."""
        if len(child.lent) >= MOST_AWAITING:
            return (
                f"{len(child.lent)} runs of this process await other tasks already, which is the most it "
                "holds, so one more might never end. Use more async processes, or send without waiting."
            )
        child.lent.add(request)
        child.add_slots(1)
        self._lenders.add(child)
        return ""

    def resume(self, child: ChildProcess, request: int) -> None:
        """That run goes on, at once, beside those that took its place."""
        if request in child.lent:
            child.lent.remove(request)
            child.add_slots(-1)
            if not child.lent:
                self._lenders.discard(child)

    def bury(self, child: ChildProcess) -> None:
        """A child died with its waits."""
        child.lent.clear()
        self._lenders.discard(child)
