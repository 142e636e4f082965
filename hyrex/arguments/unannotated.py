"""Results of tasks without a return annotation: stored as the JSON that pydantic makes of them.

A caller gets JSON values back: a model as a dict, a tuple as a list, a date as text. A value that even JSON
would lose (a secret, a key that is not text, NaN, an excluded field) is refused.
"""

import dataclasses
import json
import math
from collections import deque
from collections.abc import Mapping
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from pathlib import PurePath
from typing import Any, Final
from uuid import UUID

from pydantic import BaseModel
from pydantic_core import PydanticSerializationError, to_json

from hyrex.arguments.jsonvalues import is_json
from hyrex.arguments.refusals import NotKept, unserialisable

__all__ = ["encode_freely"]

REMEDY: Final = "give the task a return annotation that says what it is"
AS_TEXT: Final = (
    bytes, date, datetime, time, timedelta, Decimal, UUID, PurePath,
    IPv4Address, IPv6Address, IPv4Network, IPv6Network,
)  # fmt: skip


def encode_freely(value: Any) -> bytes:
    """The value as JSON; raises NotKept."""
    try:
        found = to_json(value, by_alias=False, bytes_mode="base64", inf_nan_mode="constants")
    except (PydanticSerializationError, RecursionError, ValueError, TypeError) as error:
        raise unserialisable(value, error) from error
    if not is_json(value):
        try:
            _check(value, json.loads(found), "")
        except RecursionError as error:
            raise _refused("", "it is nested too deeply") from error
        except NotKept:
            raise
        except ValueError as error:
            raise NotKept(str(error)) from error
    return found


def _check(value: Any, stored: Any, path: str) -> None:
    """Raise NotKept if `stored` lost a part of `value`."""
    if isinstance(value, Enum):
        value = value.value
    if isinstance(value, float) and not math.isfinite(value):
        raise _refused(path, f"{value!r} is not a JSON value")
    if isinstance(value, str | int | float | type(None)):
        if value == stored:
            return
    elif isinstance(value, list | tuple | set | frozenset | deque) and isinstance(stored, list):
        for index, (one, other) in enumerate(zip(value, stored, strict=True)):
            _check(one, other, f"{path}[{index}]")
        return
    elif (isinstance(value, AS_TEXT) and isinstance(stored, str)) or (
        isinstance(stored, dict) and _holds(_members(value, path), stored, path)
    ):
        return
    raise _refused(path, f"a {type(value).__qualname__} would be stored as a {type(stored).__qualname__}")


def _refused(path: str, said: str) -> NotKept:
    return NotKept(said, outline=said, path=path.lstrip("."), remedy=REMEDY)


def _holds(members: Mapping[str, Any] | None, stored: dict[str, Any], path: str) -> bool:
    if members is None or not members.keys() <= stored.keys():
        return False
    for name, one in members.items():
        _check(one, stored[name], f"{path}.{name}")
    return True


def _members(value: Any, path: str) -> Mapping[str, Any] | None:
    if isinstance(value, Mapping):
        for key in value:
            if not isinstance(key, str) or isinstance(key, Enum):
                raise _refused(path, f"a key is a {type(key).__qualname__} and no str")
        return value
    if isinstance(value, BaseModel):
        held = {name: value.__dict__[name] for name in type(value).model_fields if name in value.__dict__}
        return held | (value.__pydantic_extra__ or {}) | (value.__pydantic_private__ or {})
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: getattr(value, f.name) for f in dataclasses.fields(value)}
    return None
