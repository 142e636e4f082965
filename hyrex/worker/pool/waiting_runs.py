"""The runs of a pool that wait for a child, in order."""

import time
from collections import deque
from collections.abc import Iterable
from typing import Final

from hyrex.worker.pool.held_block import Held, HeldBlock
from hyrex.worker.pool.held_lease import HeldLease

_LONG: Final = 8  # runs that need a child of their own may wait so many times longer


class WaitingRuns:
    """Runs that any child may take (`backlog`), and runs that need a child of their own (`alone`)."""

    def __init__(self) -> None:
        self.alone: deque[HeldLease] = deque()
        self._backlog: deque[Held] = deque()
        self.backlog = 0  # how many wait that any child may take

    def __len__(self) -> int:
        """How many wait."""
        return self.backlog + len(self.alone)

    def add(self, held: HeldBlock) -> None:
        """Behind the others."""
        if held.block.terms.alone:
            self.alone.extend(held.leases())
        else:
            self._backlog.append(held)
            self.backlog += len(held)

    def put_back(self, entries: Iterable[Held]) -> None:
        """Before the others: they have waited already."""
        now = time.monotonic()
        for held in reversed(list(entries)):
            held.child, held.waiting_since = None, now
            if isinstance(held, HeldLease):
                if held.run.alone:
                    self.alone.appendleft(held)
                    continue
            else:
                held.ordinals = ()
            self._backlog.appendleft(held)
            self.backlog += _size(held)

    def take_first(self, count: int) -> list[Held]:
        """Take so many of those that any child may take."""
        taken: list[Held] = []
        self.backlog -= count
        while count:
            held = self._backlog[0]
            if isinstance(held, HeldBlock) and len(held) > count:
                taken.append(held.cut(count))
                break
            taken.append(self._backlog.popleft())
            count -= _size(held)
        return taken

    def lease(self, token: int) -> HeldLease | None:
        """A run that waits, with a lease of its own from now on; None if it does not wait here."""
        for held in self.alone:
            if held.run.token == token:
                return held
        for place, entry in enumerate(self._backlog):
            if isinstance(entry, HeldLease):
                if entry.run.token == token:
                    return entry
            elif token in entry.block.tokens:
                return self._parted(place, entry, token)
        return None

    def leases(self) -> list[HeldLease]:
        """All that wait, each with a lease of its own from now on."""
        backlog: deque[Held] = deque()
        for held in self._backlog:
            backlog.extend([held] if isinstance(held, HeldLease) else held.leases())
        self._backlog = backlog
        return [held for held in [*self._backlog, *self.alone] if isinstance(held, HeldLease)]

    def forget(self, held: HeldLease) -> None:
        """Remove a run, if it waits here."""
        if held in self.alone:
            self.alone.remove(held)
        elif held in self._backlog:
            self._backlog.remove(held)
            self.backlog -= 1

    def take(self, older_than_s: float, *, stuck: bool = False) -> list[HeldLease]:
        """Remove and return the runs that have waited that long; all of the backlog if children are `stuck`.

        A run that must be alone may wait longer, and so may one that is here only for its error handler: a
        child may have to be emptied or started for it. Together with the grace period, that is still less
        than what the broker adds to a timeout (15 s and the lease duration, from the assignment).
        """
        usual_s = 0.0 if stuck else older_than_s
        due = dict.fromkeys(held for held in self._backlog if _is_due(held, usual_s))
        if due:
            left = [held for held in self._backlog if held not in due]
            self._backlog, self.backlog = deque(left), sum(map(_size, left))
        due_alone = dict.fromkeys(held for held in self.alone if _is_due(held, older_than_s))
        if due_alone:
            self.alone = deque([held for held in self.alone if held not in due_alone])
        leases = [[held] if isinstance(held, HeldLease) else held.leases() for held in due]
        return [lease for each in leases for lease in each] + [*due_alone]

    def _parted(self, place: int, held: HeldBlock, token: int) -> HeldLease:
        """Part a block around one of its runs."""
        at = held.block.tokens.index(token)
        lease = held.lease(token)
        parts: list[Held] = [held.cut(at)] if at else []
        held.cut(1)
        parts += [lease, held] if len(held) else [lease]
        entries = list(self._backlog)
        self._backlog = deque([*entries[:place], *parts, *entries[place + 1 :]])
        return lease


def _size(held: Held) -> int:
    return len(held) if isinstance(held, HeldBlock) else 1


def _is_due(held: Held, usual_s: float) -> bool:
    longer = isinstance(held, HeldLease) and (held.run.alone or held.settled is not None)
    return time.monotonic() - held.waiting_since >= (_LONG * usual_s if longer else usual_s)
