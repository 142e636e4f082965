"""How many tasks may be watched at a time: each takes half a kilobyte of memory for each of its watches."""

from collections import Counter
from collections.abc import Hashable, Iterator
from contextlib import contextmanager
from typing import Final

from hyrex_broker.domain.errors import QuotaExceeded

MOST_OF_ONE: Final = 250_000
"""Tasks that one caller watches,"""
MOST_IN_ALL: Final = 1_000_000
"""and all of them."""


class WatchRoom:
    """The watched tasks of each caller; a task counts for each watch of it."""

    def __init__(self) -> None:
        self._of: Counter[Hashable] = Counter()
        self.in_all = 0

    @contextmanager
    def taken(self, caller: Hashable, count: int) -> Iterator[None]:
        """Within it, a caller watches so many more tasks. Raises QuotaExceeded."""
        mine = self._of[caller] + count
        if mine > MOST_OF_ONE or self.in_all + count > MOST_IN_ALL:
            one = mine > MOST_OF_ONE
            raise QuotaExceeded(
                f"{'this connection' if one else 'this broker'} would watch more than"
                f" {MOST_OF_ONE if one else MOST_IN_ALL} tasks at a time; end some watches, then repeat it",
                {"limit": str(MOST_OF_ONE if one else MOST_IN_ALL)},
            )
        self._of[caller] += count
        self.in_all += count
        try:
            yield
        finally:
            self.in_all -= count
            self._of[caller] -= count
            if not self._of[caller]:
                del self._of[caller]
