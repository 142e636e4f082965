"""Parses HYREX_CELLS: which cell each queue belongs to. Needs no gRPC.

A cell is one whole Hyrex: a database (or a schema of one) with its brokers and workers. The text is
`PATTERN=URL;PATTERN=URL;*=URL`, with URLs as in HYREX_BROKER_URL; the first pattern that matches a queue
names its cell.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final

from hyrex.address import parse_url, trusted_url
from hyrex.runtime.patterns import MOST_STARS, known

__all__ = ["Cell", "CellRoutes", "brokers_of", "parse_cells", "trusted_cells"]

_FORM: Final = "it has the form 'video*=grpc://host:50051;*=grpc://other:50051'"
_REST: Final = "*"


@dataclass(frozen=True, slots=True)
class Cell:
    """The brokers of one cell, and the patterns of the queues that are sent there."""

    url: str
    patterns: tuple[str, ...]

    @property
    def name(self) -> str:
        """What messages call it."""
        return ", ".join(self.patterns)


@dataclass(frozen=True, slots=True)
class CellRoutes:
    """Every cell, and the routes to them: patterns with places in `cells`. The first match counts."""

    cells: tuple[Cell, ...]
    routes: tuple[tuple[str, int], ...]
    _tests: tuple[tuple[Callable[[str], bool], int], ...] = field(repr=False, compare=False)

    def place_of(self, queue: str) -> int:
        """The place in `cells` of a queue's cell."""
        return next(place for matches, place in self._tests if matches(queue))

    def of(self, queue: str) -> Cell:
        """The cell of a queue."""
        return self.cells[self.place_of(queue)]

    def serving(self, patterns: Iterable[str]) -> list[Cell]:
        """The cells of the queues that these patterns match; more where two with stars may have a queue in
        common."""
        places = {place for pattern in patterns for place in self._places(pattern)}
        return [self.cells[place] for place in sorted(places)]

    def _places(self, pattern: str) -> Iterable[int]:
        for other, place in self.routes:
            if _covers(other, pattern):
                yield place
                return
            if _may_meet(other, pattern):
                yield place

    def listed(self) -> str:
        """All of them, for a message."""
        return "; ".join(f"{cell.url} ({cell.name})" for cell in self.cells)


def brokers_of(url: str) -> frozenset[str]:
    """The brokers of a URL, in no order: two URLs of one cell name the same."""
    return frozenset(address.target for address in parse_url(url))


def parse_cells(text: str) -> CellRoutes:
    """The cells of a text. Raises: ValueError that names the pattern and the remedy."""
    routes = [_route(part.strip()) for part in text.split(";") if part.strip()]
    _require_reached([pattern for pattern, _ in routes])
    brokers = [brokers_of(url) for _, url in routes]
    _require_apart(routes, brokers)
    distinct = list(dict.fromkeys(brokers))
    places = [distinct.index(each) for each in brokers]
    cells = tuple(
        Cell(
            routes[places.index(number)][1],
            tuple(pattern for (pattern, _), place in zip(routes, places, strict=True) if place == number),
        )
        for number in range(len(distinct))
    )
    tests = tuple((known((pattern,)), place) for (pattern, _), place in zip(routes, places, strict=True))
    named = tuple((pattern, place) for (pattern, _), place in zip(routes, places, strict=True))
    return CellRoutes(cells, named, tests)


def trusted_cells(text: str, token: str | None) -> CellRoutes:
    """The cells of a text, if this token may be sent to all of them. Raises: ValueError."""
    found = parse_cells(text)
    require_trusted(found, token)
    return found


def require_trusted(cells: CellRoutes, token: str | None) -> None:
    """Raise ValueError if this token may not be sent to one of the cells."""
    for cell in cells.cells:
        try:
            trusted_url(cell.url, token)
        except ValueError as error:
            raise ValueError(f"HYREX_CELLS, pattern {cell.name!r}: {error}") from None


def _route(part: str) -> tuple[str, str]:
    # The last one, since a queue's name may have the character and a URL has none.
    pattern, equals, url = (each.strip() for each in part.rpartition("="))
    if not equals or not pattern or not url:
        raise ValueError(f"HYREX_CELLS: {part!r} is not a pattern and a URL; {_FORM}")
    if pattern.count("*") > MOST_STARS:
        raise ValueError(f"HYREX_CELLS: pattern {pattern!r} has more than {MOST_STARS} stars; write fewer")
    try:
        parse_url(url)
    except ValueError as error:
        raise ValueError(f"HYREX_CELLS, pattern {pattern!r}: {error}") from None
    return pattern, url


def _require_reached(patterns: Sequence[str]) -> None:
    """Raise ValueError for a pattern that another one before it hides, and if some queue has no cell."""
    for at, pattern in enumerate(patterns):
        if pattern in patterns[:at]:
            raise ValueError(f"HYREX_CELLS: pattern {pattern!r} is there twice; keep one of them")
        hiding = next((before for before in patterns[:at] if _covers(before, pattern)), None)
        if hiding is not None:
            raise ValueError(
                f"HYREX_CELLS: pattern {pattern!r} is never reached, since {hiding!r} stands before it and "
                "matches the same queues; exchange them, or remove one"
            )
    if not patterns or not _covers(patterns[-1], _REST):
        raise ValueError(
            "HYREX_CELLS has no cell for queues that no pattern matches; end it with '*=URL', as in "
            "'video*=grpc://host:50051;*=grpc://other:50051'"
        )


def _require_apart(routes: Sequence[tuple[str, str]], brokers: Sequence[frozenset[str]]) -> None:
    """Raise ValueError where a broker is in two cells: it has one database."""
    for at, ((pattern, _), ours) in enumerate(zip(routes, brokers, strict=True)):
        for (other, _), theirs in zip(routes[:at], brokers[:at], strict=True):
            if ours != theirs and (shared := ours & theirs):
                raise ValueError(
                    f"HYREX_CELLS: broker {min(shared)} is in the cell of {other!r} and with other brokers "
                    f"in that of {pattern!r}; a broker belongs to one cell: name the same ones, or others"
                )


def _covers(pattern: str, other: str) -> bool:
    """Return True if one pattern matches all that the other matches.

    The stars of the other are taken as characters: no literal part can match them, so a star has to.
    """
    return known((pattern,))(other)


def _may_meet(pattern: str, other: str) -> bool:
    """Return True if a queue might match both; sometimes where none does."""
    if "*" not in pattern or "*" not in other:
        return _covers(pattern, other) or _covers(other, pattern)
    heads = pattern.partition("*")[0], other.partition("*")[0]
    tails = pattern.rpartition("*")[2], other.rpartition("*")[2]
    return (heads[0].startswith(heads[1]) or heads[1].startswith(heads[0])) and (
        tails[0].endswith(tails[1]) or tails[1].endswith(tails[0])
    )
