"""Which of the groups that wait for a statement goes into the next one, and into which of two kinds.

A statement with much in it takes long, and whoever asks for little must not wait for it. The size of a
request tells nothing: bulk comes in requests of any size. What counts is how much a caller has under way, or
had a moment ago. Whoever has little goes ahead: into small batches, one statement at a time beside that of
the large ones, first those that have the least under way. What waits behind the next small batch may go into
a large one.
"""

import time
from bisect import insort
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Final, Generic, Protocol, TypeVar

from hyrex_broker.engine.fairness import FairQueue, UnderWay

AHEAD: Final = 64
"""The most items of a small batch."""
_GIVES_WAY_S: Final = 1.0
_BATCHES_FOR_AN_ITEM: Final = 64


class ItemGroup(Protocol):
    """Items that arrived together."""

    @property
    def caller(self) -> Hashable:
        """Who has a share of its own."""
        ...

    @property
    def has_little(self) -> bool:
        """Its caller is known to have little under way."""
        ...

    @property
    def count(self) -> int:
        """How many items."""
        ...

    @property
    def size_bytes(self) -> int:
        """How large they are."""
        ...

    @property
    def cost(self) -> int:
        """Its share of a batch."""
        ...


Some = TypeVar("Some", bound=ItemGroup)


class _Batch(Generic[Some]):
    """A batch that is being put together."""

    def __init__(self, most_bytes: int) -> None:
        self.groups: list[Some] = []
        self._items = 0
        self._bytes = 0
        self._most_bytes = most_bytes

    def has_room(self, group: Some, most_items: int) -> bool:
        """Return True if the group fits. The first one always does."""
        items, size = self._items + group.count, self._bytes + group.size_bytes
        return not self.groups or (items <= most_items and size <= self._most_bytes)

    def add(self, group: Some) -> None:
        """Add a group."""
        self.groups.append(group)
        self._items += group.count
        self._bytes += group.size_bytes


@dataclass(slots=True, eq=False)
class _Ahead(Generic[Some]):
    """A group that waits to go ahead."""

    due: int
    """First what its caller had under way when it came, with it. Each small batch before it makes it due a
    little later, so that nobody is passed over for ever."""
    group: Some

    def __lt__(self, other: "_Ahead[Some]") -> bool:
        return self.due < other.due


class Shares(Generic[Some]):
    """The groups that wait, and what each caller has under way."""

    def __init__(self, most_items: int, most_bytes: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._most_items = most_items
        self._most_bytes = most_bytes
        self._clock = clock
        self._gives_way_until = float("-inf")
        self._ahead: list[_Ahead[Some]] = []
        self._ahead_cost = 0
        self._small_batches = 0
        self._passed_over = False  # the last large batch had no room for the first of the others
        self._others: FairQueue[Some] = FairQueue()
        self._under_way = UnderWay(clock)

    def add(self, group: Some) -> None:
        """Queue a group; after it was taken, `ended` is called once."""
        caller, cost = group.caller, group.cost
        mine = self._under_way.begin(caller, cost)
        if cost <= AHEAD and (group.has_little or self._under_way.is_little(caller)):
            insort(self._ahead, _Ahead(mine * _BATCHES_FOR_AN_ITEM + self._small_batches, group))
            self._ahead_cost += cost
            self._gives_way_until = self._clock() + _GIVES_WAY_S
        else:
            self._others.push(caller, cost, group)

    def ended(self, group: Some) -> None:
        """Note that a group is answered."""
        self._under_way.end(group.caller, group.cost)

    def gives_way(self) -> bool:
        """Return True while somebody goes ahead, or did a moment ago: most of the steps of a request are
        outside of this process, so whoever sends one after the other is seldom here."""
        return self._clock() < self._gives_way_until

    def waits_ahead(self) -> bool:
        """Return True if `take_ahead` would take something."""
        return bool(self._ahead)

    def waits(self) -> bool:
        """Return True if `take` would take something."""
        if self._others:
            return True
        return bool(self._ahead) and self._ahead_cost - self._ahead[-1].group.cost >= AHEAD

    def take_ahead(self) -> list[Some]:
        """The next small batch."""
        batch: _Batch[Some] = _Batch(self._most_bytes)
        self._move_ahead(batch, 0, AHEAD)
        self._small_batches += 1
        return batch.groups

    def take(self) -> list[Some]:
        """The next large batch; at most a half of it is of those that wait to go ahead, if others wait.
        Whatever of the others found no room in the last one is the first of this one."""
        batch: _Batch[Some] = _Batch(self._most_bytes)
        others = len(self._others)
        if self._passed_over and others:
            batch.add(self._others.pop())
        self._move_ahead(batch, self._next_ahead(), self._most_items // 2 if others else self._most_items)
        while self._others and batch.has_room(self._others.first, self._most_items):
            batch.add(self._others.pop())
        self._passed_over = 0 < others == len(self._others)
        return batch.groups

    def _next_ahead(self) -> int:
        """How many of those that wait to go ahead are left to the next small batch."""
        count, cost = 0, 0
        while cost < AHEAD and count < len(self._ahead):
            cost += self._ahead[count].group.cost
            count += 1
        return count

    def _move_ahead(self, batch: _Batch[Some], first: int, most_items: int) -> None:
        """Add as many of those that wait to go ahead as fit, from there on."""
        end = first
        while end < len(self._ahead) and batch.has_room(group := self._ahead[end].group, most_items):
            batch.add(group)
            self._ahead_cost -= group.cost
            end += 1
        del self._ahead[first:end]

    def take_all(self) -> list[Some]:
        """Everything that waits; nothing is left, and nothing counts as under way."""
        self._under_way.clear()
        self._ahead_cost = 0
        ahead, self._ahead = self._ahead, []
        return [each.group for each in ahead] + self._others.take_all()

    def sizes(self) -> dict[str, int]:
        """What is here now, for a report of this process (SIGUSR1)."""
        return {
            "waiting ahead": len(self._ahead),
            "waiting": len(self._others),
            "callers": len(self._under_way),
        }
