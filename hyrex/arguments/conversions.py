"""What validation itself loses: it may convert what it is given, but not drop a part of it.

"3" under `int` becomes 3, as pydantic has it. An unknown key of a dict that becomes a model, two
keys that become one, and an int that no float holds are lost, and said so.
"""

from collections.abc import Iterable, Mapping
from decimal import Decimal
from typing import Any, Final

from pydantic import BaseModel

__all__ = ["can_lose", "lost_in_conversion"]

UNTYPED: Final[Mapping[str, Any]] = {"type": "any"}


def can_lose(schema: Any) -> bool:
    """Return True if the validator of this core schema can drop a part of what it is given."""
    if isinstance(schema, list | tuple):
        return any(map(can_lose, schema))
    if not isinstance(schema, Mapping):
        return False
    kind = schema.get("type")
    if kind in ("float", "model"):
        return True
    if kind == "dict" and schema.get("keys_schema", UNTYPED)["type"] not in ("any", "str"):
        return True
    return any(map(can_lose, schema.values()))


def lost_in_conversion(given: Any, valid: Any, path: str = "") -> str:
    """What was lost, with its path; empty if nothing was."""
    if given is valid:
        return ""
    if type(valid) is float and isinstance(given, int | Decimal) and given != valid:
        return f"{path.lstrip('.')}: no float is {given!r}, the nearest is {valid!r}; hint int or Decimal"
    if isinstance(given, Mapping):
        return _mapping(given, valid, path)
    if isinstance(given, list | tuple) and isinstance(valid, list | tuple) and len(given) == len(valid):
        pairs = enumerate(zip(given, valid, strict=True))
        return _first(lost_in_conversion(one, other, f"{path}[{index}]") for index, (one, other) in pairs)
    return ""


def _mapping(given: Mapping[Any, Any], valid: Any, path: str) -> str:
    if isinstance(valid, BaseModel):
        return _model(given, valid, path)
    if not isinstance(valid, Mapping):
        return ""
    if len(valid) < len(given):
        shown = ", ".join(map(repr, list(given)[:5]))
        return f"{path.lstrip('.')}: of the keys {shown} some become one; give all of them one type"
    pairs = zip(given.items(), valid.values(), strict=False)
    return _first(lost_in_conversion(one, other, f"{path}.{key}") for (key, one), other in pairs)


def _model(given: Mapping[Any, Any], model: BaseModel, path: str) -> str:
    if model.__pydantic_extra__ is not None or type(model).__pydantic_decorators__.model_validators:
        return ""
    known: dict[str, str] = {}
    for name, field in type(model).model_fields.items():
        alias = field.validation_alias or name
        if not isinstance(alias, str):
            return ""  # an AliasPath may lead anywhere
        known |= {name: name, alias: name}
    for key in given:
        if key not in known:
            name = type(model).__qualname__
            return f"{path.lstrip('.')}: {name} has no field {key!r} and would drop it; leave it out"
    found = ((key, one, getattr(model, known[key], None)) for key, one in given.items())
    return _first(lost_in_conversion(one, other, f"{path}.{key}") for key, one, other in found)


def _first(found: Iterable[str]) -> str:
    return next(filter(None, found), "")
