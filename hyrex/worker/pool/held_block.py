"""Leases that this session holds together, and where their runs stand: as a block, until one needs more.

A run that is stopped, cancelled, settled or lost gets a HeldLease of its own; most never do.
"""

from collections.abc import Iterable, Sequence
from itertools import groupby
from time import monotonic
from typing import TypeAlias

from hyrex.worker.pool.held_lease import HeldLease, Holder
from hyrex.worker.shared.child_messages import Finished
from hyrex.worker.shared.outcome import Completed, Ending
from hyrex.worker.shared.runs import RunBlock


class HeldBlock:
    """Runs that wait here together, or were given to a child together."""

    child: Holder | None = None  # where they were given to; None while they wait here
    ordinals: Sequence[int] = ()  # their places among all runs given to that child
    given_at = 0.0

    def __init__(self, block: RunBlock, pool: str) -> None:
        """They have arrived, and wait here."""
        self.block = block
        self.pool = pool
        self.waiting_since = monotonic()

    def __len__(self) -> int:
        """How many runs."""
        return len(self.block)

    @property
    def alone(self) -> bool:
        """True if each needs a child of its own."""
        return self.block.terms.alone

    def cut(self, count: int) -> "HeldBlock":
        """Take the first runs off."""
        first = self._like(self.block.part(0, count))
        self.block = self.block.part(count, len(self.block))
        return first

    def taking(self, places: Sequence[int]) -> "HeldBlock":
        """Those at these places, as they stand."""
        made = self._like(self.block.taking(places))
        made.child, made.given_at = self.child, self.given_at
        made.ordinals = [self.ordinals[place] for place in places] if self.ordinals else ()
        return made

    def lease(self, token: int) -> HeldLease:
        """One of them with a lease of its own, as it stands. Raises: ValueError."""
        return self._lease_at(self.block.tokens.index(token))

    def leases(self) -> list[HeldLease]:
        """Each of them with a lease of its own."""
        return [self._lease_at(place) for place in range(len(self))]

    def _lease_at(self, place: int) -> HeldLease:
        made = HeldLease(self.block.run(place), self.pool)
        made.waiting_since, made.child = self.waiting_since, self.child
        if self.ordinals:
            made.ordinal = self.ordinals[place]
        return made

    def _like(self, block: RunBlock) -> "HeldBlock":
        made = HeldBlock(block, self.pool)
        made.waiting_since = self.waiting_since
        return made


Held: TypeAlias = HeldBlock | HeldLease


def together(entries: Iterable[tuple[int, Held]]) -> list[Held]:
    """What is held of these tokens, in their order; neighbours of one block stay together."""
    gathered: list[Held] = []
    for held, members in groupby(entries, key=lambda entry: entry[1]):
        if isinstance(held, HeldLease):
            gathered.append(held)
            continue
        places = {token: place for place, token in enumerate(held.block.tokens)}
        gathered.append(held.taking([places[token] for token, _ in members]))
    return gathered


def parted(
    finished: Finished, held: Sequence[Held | None]
) -> tuple[Finished, list[tuple[HeldLease, Ending]]]:
    """What returned of runs that are held in blocks; and the ends of those with a lease of their own. What is
    not held is nobody's."""
    plain: list[tuple[int, int, bytes]] = []
    leases: list[tuple[HeldLease, Ending]] = []
    columns = zip(finished.tokens, finished.elapsed_us, finished.results, held, strict=True)
    for token, elapsed_us, result, each in columns:
        if isinstance(each, HeldLease):
            leases.append((each, Ending(token, Completed(result), elapsed_us * 1000)))
        elif each is not None:
            plain.append((token, elapsed_us, result))
    return Finished(*([list(column) for column in zip(*plain, strict=True)] or [[], [], []])), leases
