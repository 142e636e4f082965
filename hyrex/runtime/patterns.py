"""Queue patterns: names in which `*` stands for any run of characters, the empty one included.

What a match may cost is bounded: a pattern has few stars, and each part between them is looked for once.
"""

from collections.abc import Callable, Iterable
from functools import lru_cache
from typing import Final

__all__ = ["MOST_STARS", "compile", "known"]

MOST_STARS: Final = 4
_MOST_KNOWN: Final = 1024


def compile(patterns: Iterable[str]) -> Callable[[str], bool]:  # noqa: A001  # patterns.compile, as in re
    """Make a function that returns True if a pattern matches a whole queue name; all but `*` is literal."""
    distinct = frozenset(patterns)
    if any(pattern and not pattern.strip("*") for pattern in distinct):
        return lambda name: True
    exact = frozenset(pattern for pattern in distinct if "*" not in pattern)
    wild = [tuple(pattern.split("*")) for pattern in sorted(distinct - exact)]
    # Most patterns are a prefix and a star: a single call of startswith checks all of these.
    heads = tuple(parts[0] for parts in wild if parts[1:] == ("",))
    tails = tuple(parts[1] for parts in wild if len(parts) == 2 and not parts[0])
    others = [parts for parts in wild if len(parts) > 2 or (parts[0] and parts[1])]
    return lambda name: (
        name in exact
        or name.startswith(heads)
        or name.endswith(tails)
        or any(_fits(parts, name) for parts in others)
    )


@lru_cache(_MOST_KNOWN)
def known(patterns: tuple[str, ...]) -> Callable[[str], bool]:
    """`compile` with a cache: the sessions of a cluster have few different sets of patterns."""
    return compile(patterns)


def _fits(parts: tuple[str, ...], name: str) -> bool:
    """Return True if the literal parts between the stars occur in order, the first and last at the ends.

    Taking each at its leftmost place is enough, so no pattern costs more than one pass over the name.
    """
    first, *middle, last = parts
    if len(name) < len(first) + len(last) or not (name.startswith(first) and name.endswith(last)):
        return False
    position, end = len(first), len(name) - len(last)
    for part in middle:
        found = name.find(part, position, end)
        if found < 0:
            return False
        position = found + len(part)
    return True
