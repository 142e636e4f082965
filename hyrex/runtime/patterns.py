r"""Queue patterns: names in which `*` stands for any run of characters, the empty one included.

In the patterns of filters `\*` is a star and `\\` a backslash, so that they can ask for every name alone.

What a match may cost is bounded: a pattern has few stars, and each part between them is looked for once.
"""

import re
from collections.abc import Callable, Iterable
from functools import lru_cache
from typing import Final

__all__ = ["MOST_STARS", "compile", "compile_escaped", "escaped", "known", "parts_of"]

MOST_STARS: Final = 4
_MOST_KNOWN: Final = 1024
_TOKEN: Final = re.compile(r"\\[\\*]|.", re.DOTALL)


def compile(patterns: Iterable[str]) -> Callable[[str], bool]:  # noqa: A001  # patterns.compile, as in re
    """Make a function that returns True if a pattern matches a whole queue name; all but `*` is literal."""
    return _fitting(tuple(pattern.split("*")) for pattern in patterns)


def compile_escaped(patterns: Iterable[str]) -> Callable[[str], bool]:
    """The same for the patterns of filters. Raises ValueError for one that `parts_of` refuses."""
    return _fitting(map(parts_of, patterns))


def escaped(text: str) -> str:
    """The pattern of a filter that fits this text alone."""
    return text.replace("\\", "\\\\").replace("*", "\\*")


def parts_of(pattern: str) -> tuple[str, ...]:
    """The literal parts between the stars of a filter's pattern. Raises ValueError for a backslash that
    stands before anything but a star or a backslash."""
    parts = [""]
    for token in _TOKEN.findall(pattern):
        if token == "\\":
            raise ValueError(pattern)
        if token == "*":
            parts.append("")
        else:
            parts[-1] += token[-1]
    return tuple(parts)


def _fitting(patterns: Iterable[tuple[str, ...]]) -> Callable[[str], bool]:
    """What fits one of the patterns, each as its literal parts."""
    distinct = frozenset(patterns)
    if any(len(parts) > 1 and not any(parts) for parts in distinct):
        return lambda name: True
    exact = frozenset(parts[0] for parts in distinct if len(parts) == 1)
    wild = sorted(parts for parts in distinct if len(parts) > 1)
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
