"""Slots lent while their runs wait for other tasks: how many there are, and when no more may be lent.

A sync run that waits keeps its thread and does nothing. A substitute child, started beside the usual ones,
runs other tasks meanwhile; there are at most as many substitutes as usual children. An async run that awaits
keeps nothing busy: its own child takes another run in its place.
"""

import time
from typing import Final

from hyrex.worker.pool.child_process import ChildProcess
from hyrex.worker.shared.child_options import MOST_AWAITING

_LINGER_S: Final = 10.0


class Lending:
    """Counts the lent slots of a pool."""

    def __init__(self, children: int, slots: int) -> None:
        """Count for a pool of `children` with `slots` each."""
        self._children = children
        self._slots = slots
        self._lent = 0
        self._most_lately = 0
        self._lately = 0.0

    @property
    def substitutes(self) -> int:
        """How many children may run beside the usual ones now."""
        return min(self._children, -(-self._lent // self._slots))

    def kept(self) -> int:
        """How many substitutes to keep alive: for some seconds as many as were needed, since waits recur."""
        now = time.monotonic()
        if self.substitutes >= self._most_lately or now - self._lately > _LINGER_S:
            self._most_lately, self._lately = self.substitutes, now
        return self._most_lately

    def ask(self, child: ChildProcess, request: int) -> str:
        """Lend a slot of this child for its wait of that number. Return "", or why it may not be lent."""
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
        """Take the slot back, if one was lent for that wait, which is over."""
        if request in child.lent:
            child.lent.remove(request)
            self._lent -= 1

    def child_died(self, child: ChildProcess) -> None:
        """Take back all slots that were lent for waits of a child that died."""
        self._lent -= len(child.lent)
        child.lent.clear()


class AsyncLending(Lending):
    """As Lending, for children that can execute more runs than they have slots."""

    def __init__(self) -> None:
        self._lenders: set[ChildProcess] = set()

    @property
    def substitutes(self) -> int:
        """How many children need one in their place: they have waiting runs, and may take no others."""
        return sum(1 for child in self._lenders if child.exclusive or child.exhausted)

    def kept(self) -> int:
        """No more substitutes than are needed now."""
        return self.substitutes

    def ask(self, child: ChildProcess, request: int) -> str:
        """Free the slot of a run that awaits. Return "", or why it may not be freed."""
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
        """Take the slot back. The run goes on at once, beside the one that took its place."""
        if request in child.lent:
            child.lent.remove(request)
            child.add_slots(-1)
            if not child.lent:
                self._lenders.discard(child)

    def child_died(self, child: ChildProcess) -> None:
        """Take back all slots that were lent for waits of a child that died."""
        child.lent.clear()
        self._lenders.discard(child)
