"""How values are distributed, as plain integers: counted in batches, read by metrics."""

from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from typing import Final

__all__ = ["ITEM_BOUNDS", "LAG_BOUNDS_US", "RUN_BOUNDS_US", "STATEMENT_BOUNDS_US", "Histogram"]

_MS: Final = 1000
_S: Final = 1_000_000

RUN_BOUNDS_US: Final = (
    1 * _MS, 2 * _MS, 5 * _MS, 10 * _MS, 20 * _MS, 50 * _MS, 100 * _MS, 200 * _MS, 500 * _MS, 1 * _S, 2 * _S,
    5 * _S, 10 * _S, 30 * _S, 60 * _S, 300 * _S, 1800 * _S, 3600 * _S,
)  # fmt: skip
"""For runs and for waits in queues, which last from under a millisecond to hours."""
STATEMENT_BOUNDS_US: Final = (
    500, 1 * _MS, 2500, 5 * _MS, 10 * _MS, 25 * _MS, 50 * _MS, 100 * _MS, 250 * _MS, 1 * _S, 2500 * _MS,
)  # fmt: skip
LAG_BOUNDS_US: Final = (1 * _MS, 5 * _MS, 10 * _MS, 25 * _MS, 50 * _MS, 100 * _MS, 250 * _MS, 1 * _S, 5 * _S)
ITEM_BOUNDS: Final = (1, 2, 5, 10, 25, 50, 100, 250, 500, 1000)


class Histogram:
    """Counts of values by size, and their sum. `counts` has one entry more than `bounds`: of larger ones."""

    __slots__ = ("bounds", "counts", "total")

    def __init__(self, bounds: Sequence[int]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.total = 0

    @property
    def count(self) -> int:
        """Of all values."""
        return sum(self.counts)

    def add(self, value: int, count: int = 1) -> None:
        """Add one value so many times."""
        self.counts[bisect_left(self.bounds, value)] += count
        self.total += value * count

    def add_all(self, values: Sequence[int]) -> None:
        """Add values, at a cost per value of a sort: 0.1 µs in a batch of a thousand."""
        if len(values) == 1:
            self.add(values[0])
            return
        ordered = sorted(values)
        before = 0
        for place, bound in enumerate(self.bounds):
            if before == len(ordered):
                break
            until = bisect_right(ordered, bound, before)
            self.counts[place] += until - before
            before = until
        self.counts[-1] += len(ordered) - before
        self.total += sum(ordered)

    def add_column(self, column: Sequence[int], count: int) -> None:
        """Add the values of a column: none stands for zeros, one for as many, else one each."""
        if len(column) == count:
            self.add_all(column)
        else:
            self.add(column[0] if column else 0, count)
