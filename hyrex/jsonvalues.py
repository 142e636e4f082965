"""Which values survive JSON unchanged, and where in an argument those are that do not.

Knows nothing of hints: every value here is one that no hint describes.
"""

import math
from enum import Enum
from typing import Any, Final

__all__ = ["NotJson", "check_float", "check_json", "check_key"]

DEPTH_LIMIT: Final = 180
UNCHECKED: Final = frozenset({str, bool, int, type(None)})


class NotJson(ValueError):
    """A value that JSON would change or refuse; the text names its path."""


def check_json(value: Any, path: str, depth: int = 0) -> None:
    """Raise NotJson unless the value is the same after a round trip through JSON."""
    kind = type(value)
    if kind in UNCHECKED:
        if kind is str:
            _check_text(value, path)
    elif isinstance(value, Enum):
        raise _lossy(value, path)
    elif isinstance(value, float):
        check_float(value, path)
    elif isinstance(value, dict):
        _check_dict(value, path, depth)
    elif isinstance(value, list):
        _check_depth(path, depth)
        for index, item in enumerate(value):
            check_json(item, f"{path}[{index}]", depth + 1)
    elif not isinstance(value, str | int):
        raise _lossy(value, path)


def _check_dict(value: dict[Any, Any], path: str, depth: int) -> None:
    _check_depth(path, depth)
    for key, item in value.items():
        check_json(item, check_key(key, path), depth + 1)


def check_key(key: Any, path: str) -> str:
    """The path of what is stored under this key; raises NotJson if JSON would change the key."""
    if not isinstance(key, str) or isinstance(key, Enum):
        raise NotJson(f"{path}: the key {key!r} is {_named(key)}, JSON has only str keys")
    _check_text(key, path)
    return f"{path}.{key}" if key.isidentifier() else f"{path}[{key!r}]"


def _check_text(value: str, path: str) -> None:
    if not value.isascii():
        try:
            value.encode()
        except UnicodeEncodeError:
            raise NotJson(f"{path}: {value[:40]!r} is not valid Unicode") from None


def _check_depth(path: str, depth: int) -> None:
    if depth > DEPTH_LIMIT:
        raise NotJson(f"{path[:80]}...: nested deeper than {DEPTH_LIMIT} levels")


def check_float(value: float, path: str) -> None:
    """Raise NotJson for NaN and the infinities."""
    if not math.isfinite(value):
        raise NotJson(f"{path}: {value!r} has no form in JSON")


def _lossy(value: Any, path: str) -> NotJson:
    return NotJson(
        f"{path}: {_named(value)} is not a JSON value; give the parameter a hint that says what it is"
    )


def _named(value: Any) -> str:
    kind = type(value)
    name = kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
    return f"{'an' if name[0] in 'aeiou' else 'a'} {name}"
