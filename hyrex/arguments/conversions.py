"""Finds values that validation itself loses: it may convert a value, but must not drop a part of it.

That "3" becomes 3 under `int` is conversion, as pydantic defines it. Lost are an unknown key of a dict that
becomes a model, two keys or members that become one, a number that no float can represent, and the zone of a
datetime that becomes a date.
"""

import dataclasses
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from datetime import date, datetime
from numbers import Number
from typing import Any, Final

from pydantic import BaseModel
from pydantic.fields import FieldInfo

__all__ = ["Loss", "can_lose", "lost_in_conversion"]

Loss = tuple[str, str, str]
"""The path of what was lost, a description, and the remedy."""
ONE_TYPE: Final = "give all of them one type"
ZONED: Final = "hint datetime, or send the date() that is meant"

LOSING: Final = frozenset({"float", "complex", "date", "model", "dataclass"})
UNTYPED: Final[Mapping[str, Any]] = {"type": "any"}


def can_lose(schema: Any) -> bool:
    """Return True if the validator of this core schema can drop a part of a value."""
    if isinstance(schema, list | tuple):
        return any(map(can_lose, schema))
    if not isinstance(schema, Mapping):
        return False
    kind = schema.get("type")
    if kind in LOSING:
        return True
    part = {"dict": "keys_schema", "set": "items_schema", "frozenset": "items_schema"}.get(str(kind))
    if part is not None and _converts(schema.get(part, UNTYPED)):
        return True  # two members may become equal: b"a" and "a" too
    return any(map(can_lose, schema.values()))


def _converts(schema: Mapping[str, Any]) -> bool:
    return schema["type"] != "any" and not (schema["type"] == "str" and schema.get("strict"))


def lost_in_conversion(given: Any, valid: Any, path: str = "") -> Loss | None:
    """Describe what was lost; None if nothing was."""
    if given is valid:
        return None
    if type(valid) in (float, complex) and _is_other_number(given, valid):
        kind = type(valid).__name__
        return path.lstrip("."), f"no {kind} is {given!r}, the nearest is {valid!r}", f"hint {_exact(given)}"
    if type(valid) is date and isinstance(given, datetime) and given.tzinfo is not None:
        return path.lstrip("."), f"the date {valid!r} would lose the zone of {given!r}", ZONED
    if isinstance(given, Mapping):
        return _mapping(given, valid, path)
    if isinstance(given, AbstractSet) and isinstance(valid, AbstractSet):
        return _members_of_set(given, valid, path)
    if isinstance(given, Sequence) and isinstance(valid, list | tuple | deque):
        if len(given) != len(valid) and not hasattr(valid, "_fields"):  # a NamedTuple may have defaults
            return None
        pairs = enumerate(zip(given, valid, strict=False))
        return _first(lost_in_conversion(one, other, f"{path}[{index}]") for index, (one, other) in pairs)
    return None


def _mapping(given: Mapping[Any, Any], valid: Any, path: str) -> Loss | None:
    if isinstance(valid, BaseModel):
        return _model(given, valid, path)
    if dataclasses.is_dataclass(valid):
        return _dataclass(given, valid, path)
    if not isinstance(valid, Mapping):
        return None
    if len(valid) < len(given):
        return _merged("keys", given, path)
    pairs = list(zip(given.items(), valid.items(), strict=False))
    return _first(lost_in_conversion(key, other, path) for (key, _), (other, _) in pairs) or _first(
        lost_in_conversion(one, other, f"{path}.{key}") for (key, one), (_, other) in pairs
    )


def _members_of_set(given: AbstractSet[Any], valid: AbstractSet[Any], path: str) -> Loss | None:
    if len(valid) < len(given):
        return _merged("members", given, path)
    changed = [one for one in given if one not in valid]
    made = [one for one in valid if one not in given]
    return _first(lost_in_conversion(one, other, path) for one in changed for other in made[:1])


def _model(given: Mapping[Any, Any], model: BaseModel, path: str) -> Loss | None:
    if model.__pydantic_extra__ is not None or type(model).__pydantic_decorators__.model_validators:
        return None
    return _fields(given, model, type(model).model_fields, path)


def _dataclass(given: Mapping[Any, Any], made: Any, path: str) -> Loss | None:
    cls = type(made)
    fields = getattr(cls, "__pydantic_fields__", None)
    if fields is None:
        return _members(given, made, path)
    keeps = getattr(cls, "__pydantic_config__", {}).get("extra") == "allow"
    return (
        None if keeps or cls.__pydantic_decorators__.model_validators else _fields(given, made, fields, path)
    )


def _members(given: Mapping[Any, Any], made: Any, path: str) -> Loss | None:
    """What was lost in the fields of a dataclass of the standard library.

    Unknown keys need no look: it refuses them itself, except in a model, which has a validator of its own.
    """
    names = {field.name: field for field in dataclasses.fields(made)}
    renamed = any(isinstance(f.default, FieldInfo) or "Annotated" in str(f.type) for f in names.values())
    for key in given:
        if key not in names and not renamed:
            name = type(made).__qualname__
            return path.lstrip("."), f"{name} has no field {key!r} and would drop it", "leave it out"
    found = ((key, one, getattr(made, str(key), one)) for key, one in given.items())
    return _first(lost_in_conversion(one, other, f"{path}.{key}") for key, one, other in found)


def _fields(given: Mapping[Any, Any], made: Any, fields: Mapping[str, FieldInfo], path: str) -> Loss | None:
    known: dict[str, str] = {}
    for name, field in fields.items():
        alias = field.validation_alias or name
        if not isinstance(alias, str):
            return None  # an AliasPath may lead anywhere
        known |= {name: name, alias: name}
    for key in given:
        if key not in known:
            name = type(made).__qualname__
            return path.lstrip("."), f"{name} has no field {key!r} and would drop it", "leave it out"
    found = ((key, one, getattr(made, known[key], None)) for key, one in given.items())
    return _first(lost_in_conversion(one, other, f"{path}.{key}") for key, one, other in found)


def _is_other_number(given: Any, valid: Any) -> bool:
    """Return True if these numbers differ. 0.1 equals its complex form, and NaN is not compared."""
    return isinstance(given, Number) and not isinstance(given, float | complex) and bool(given != valid)


def _exact(given: Any) -> str:
    return "int or Decimal" if type(given).__name__ in ("int", "Decimal") else type(given).__qualname__


def _merged(what: str, given: Iterable[Any], path: str) -> Loss:
    shown = ", ".join(map(repr, list(given)[:5]))
    return path.lstrip("."), f"of the {what} {shown} some become one", ONE_TYPE


def _first(found: Iterable[Loss | None]) -> Loss | None:
    return next(filter(None, found), None)
