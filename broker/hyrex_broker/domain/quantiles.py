"""Quantiles of values of which only counts by size are known."""

from collections.abc import Sequence


def quantile(share: float, bounds: Sequence[int], counts: Sequence[int]) -> float:
    """The value below which this share of the values lies, taken as evenly spread within their bucket.

    `counts` has one entry more than `bounds`: of larger values, which count as the highest bound. 0 without
    values.
    """
    wanted, before = share * sum(counts), 0
    if not wanted:
        return 0.0
    for place, count in enumerate(counts):
        if before + count >= wanted:
            low = bounds[place - 1] if place else 0
            high = bounds[place] if place < len(bounds) else low
            return low + (high - low) * (wanted - before) / count
        before += count
    return float(bounds[-1])
