"""Which values are JSON values already: the same, in value and type, after a round trip.

For values that no type hint describes.
"""

import math
from typing import Any, Final

__all__ = ["has_plain_keys", "is_json"]

DEPTH_LIMIT: Final = 180  # pydantic's JSON parser ends at 200
SCALARS: Final = frozenset({str, bool, int, type(None)})


def is_json(value: Any, depth: int = 0) -> bool:
    """Return True if the value is certain to be the same after a round trip through JSON."""
    kind = type(value)
    if kind in SCALARS:
        return True
    if kind is float:
        return math.isfinite(value)
    if depth > DEPTH_LIMIT:
        return False
    if kind is list:
        return SCALARS.issuperset(map(type, value)) or _all_json(value, depth + 1)
    if kind is dict:
        return has_plain_keys(value) and _all_json(value.values(), depth + 1)
    return False


def _all_json(values: Any, depth: int) -> bool:
    for value in values:  # noqa: SIM110
        if type(value) not in SCALARS and not is_json(value, depth):
            return False
    return True


def has_plain_keys(value: dict[Any, Any]) -> bool:
    """Return True if every key is an ASCII str, which JSON keeps.

    Other text may contain half a surrogate pair, which is dropped from keys without an error.
    """
    for key in value:  # noqa: SIM110  a generator takes three times as long
        if type(key) is not str or not key.isascii():
            return False
    return True
