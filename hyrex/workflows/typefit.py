"""Says whether what one function returns can be an argument of another, by their hints.

It says no only where that is certain: what it does not know fits, and is validated when it runs.
"""

import types
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Annotated, Any, Final, Literal, NewType, TypeVar, Union, get_args, get_origin

from typing_extensions import is_typeddict

__all__ = ["fits", "fits_in_list", "shown"]

_WIDER: Final[Mapping[type, tuple[type, ...]]] = {int: (float, complex), float: (complex,)}
_UNIONS: Final = (Union, types.UnionType)


def fits(source: Any, target: Any) -> bool:
    """Return False if a function that returns `source` cannot give an argument of hint `target`."""
    source, target = _plain(source), _plain(target)
    if source in (Any, object) or target in (Any, object):
        return True
    for hint, other_way in ((source, False), (target, True)):
        if (choices := _choices(hint)) is not None:
            return any(fits(source, each) if other_way else fits(each, target) for each in choices)
    return _fits_class(source, target)


def fits_in_list(source: Any, target: Any) -> bool:
    """As fits(), for one of several results that are given as a list."""
    target = _plain(target)
    if (choices := _choices(target)) is not None:
        return any(fits_in_list(source, each) for each in choices)
    kind = get_origin(target) or target
    if not isinstance(kind, type) or kind in (Any, object):
        return True
    if not issubclass(kind, Iterable) or issubclass(kind, str | bytes | Mapping):
        return False
    inside = [each for each in get_args(target) if each is not Ellipsis]
    return len(inside) != 1 or fits(source, inside[0])


def shown(hint: Any) -> str:
    """A hint, for people."""
    plain = isinstance(hint, type) and not get_args(hint)
    return hint.__qualname__ if plain else str(hint).replace("typing.", "")


def _choices(hint: Any) -> Sequence[Any] | None:
    """The hints of which a value has one; None if the hint is not of that kind."""
    if get_origin(hint) in _UNIONS:
        return get_args(hint)
    return [type(value) for value in get_args(hint)] if get_origin(hint) is Literal else None


def _plain(hint: Any) -> Any:
    """A hint without what says more than its type."""
    if hint is None:
        return type(None)
    if get_origin(hint) is Annotated:
        return _plain(get_args(hint)[0])
    if isinstance(hint, NewType):
        return _plain(hint.__supertype__)
    if isinstance(hint, TypeVar):
        return Any
    return _plain(hint.__value__) if type(hint).__name__ == "TypeAliasType" else hint


def _fits_class(source: Any, target: Any) -> bool:
    have, want = get_origin(source) or source, get_origin(target) or target
    if not isinstance(have, type) or not isinstance(want, type):
        return True
    if is_typeddict(have) or is_typeddict(want):
        return is_typeddict(have) == is_typeddict(want) or dict in (have, want)
    try:
        is_kind = issubclass(have, want) or want in _WIDER.get(have, ())
    except TypeError:  # a protocol that cannot be asked
        return True
    return is_kind and _fit_inside(have, source, target)


def _fit_inside(have: type, source: Any, target: Any) -> bool:
    """Return False if elements of collections do not fit, where both hints name as many."""
    mine, theirs = get_args(source), get_args(target)
    if not issubclass(have, Collection) or issubclass(have, tuple) or len(mine) != len(theirs):
        return True
    return all(fits(each, other) for each, other in zip(mine, theirs, strict=True))
