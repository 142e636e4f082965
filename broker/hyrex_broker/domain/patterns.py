"""Queue patterns: names in which `*` stands for any run of characters, the empty one included."""

from collections.abc import Callable, Iterable


def compile(patterns: Iterable[str]) -> Callable[[str], bool]:  # noqa: A001  # patterns.compile, as in re
    """A test whether any of the patterns matches a whole queue name; but for `*`, case and all count."""
    distinct = frozenset(patterns)
    if "*" in distinct:
        return lambda name: True
    exact = frozenset(pattern for pattern in distinct if "*" not in pattern)
    wild = tuple(tuple(pattern.split("*")) for pattern in sorted(distinct - exact))
    return lambda name: name in exact or any(_fits(parts, name) for parts in wild)


def _fits(parts: tuple[str, ...], name: str) -> bool:
    """Whether the literal parts between the stars occur in order, the first and last at the ends.

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
