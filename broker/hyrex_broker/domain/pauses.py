"""Pauses that grow."""

import random
from typing import Final

_MOST_DOUBLED: Final = 30
"""After thousands of failures the power would be no float any more."""


def growing_s(first_s: float, failures: int, longest_s: float) -> float:
    """A pause in seconds, twice as long after each failure up to a bound; by chance down to its half, so that
    those that failed together do not try again together."""
    longest = min(longest_s, first_s * 2.0 ** min(failures, _MOST_DOUBLED))
    return longest * random.uniform(0.5, 1.0)
