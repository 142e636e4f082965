"""How many tasks may be watched at a time: each takes half a kilobyte of memory for each of its watches."""

from collections import Counter
from collections.abc import Hashable, Iterable, Iterator
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
    def taken(self, caller: Hashable, count: int, token: Hashable = None) -> Iterator[None]:
        """Within it, a caller watches so many more tasks. Raises QuotaExceeded.

        The callers with one token (None: callers are not told apart) have as many as they leave free, so that
        they do not keep the others out.
        """
        own = ("connection", caller), ("token", token)
        if self._of[own[0]] + count > MOST_OF_ONE:
            raise _too_many("this connection", MOST_OF_ONE, "connection")
        free = MOST_IN_ALL - self.in_all
        if count > free:
            raise _too_many("this broker", MOST_IN_ALL, "broker")
        if token is not None and self._of[own[1]] + count > free:
            raise _too_many("those with this token", self._of[own[1]], "broker")
        self._change(own, count)
        try:
            yield
        finally:
            self._change(own, -count)

    def _change(self, own: Iterable[Hashable], count: int) -> None:
        self.in_all += count
        for each in own:
            self._of[each] += count
            if not self._of[each]:
                del self._of[each]


def _too_many(who: str, limit: int, bound: str) -> QuotaExceeded:
    return QuotaExceeded(
        f"{who} would watch more than {limit} tasks at a time; end some watches, then repeat it",
        {"limit": str(limit), "bound": bound},
    )
