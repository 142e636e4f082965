"""Reads the arguments of many calls with one call of pydantic, where that runs no user code.

A validator of the user runs for one task, in that task's run: it may ask which, block, or raise. So only
schemas without any are read in lots. Whatever is wrong with one of a lot, the caller reads each by itself.
"""

import secrets
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from pydantic_core import CoreConfig, SchemaError, SchemaValidator, ValidationError

from hyrex.arguments.limits import LOT

__all__ = ["LotReader", "lot_reader"]

LotReader = Callable[[Sequence[bytes]], list[Any] | None]
"""Takes LOT payloads; returns their values, or None if they must be read one by one."""

# Kinds that run no user code by themselves; what their schemas hold is looked at too.
OURS: Final = frozenset(
    {
        "any", "bool", "bytes", "date", "datetime", "decimal", "definition-ref", "definitions", "enum",
        "float", "int", "list", "literal", "model-field", "model-fields", "none", "nullable", "str", "time",
        "timedelta", "tuple", "typed-dict", "typed-dict-field", "union", "uuid",
    }
)  # fmt: skip
HASHED: Final = frozenset({"any", "bool", "bytes", "date", "datetime", "float", "int", "none", "str", "uuid"})
NOT_READ: Final = frozenset({"metadata", "serialization", "cls"})


def lot_reader(schema: Mapping[str, Any], config: CoreConfig) -> LotReader:
    """What reads LOT payloads of one schema; where that runs user code, it never does."""
    if not _runs_no_code(schema):
        return _one_by_one
    mark = secrets.token_hex(16)
    try:
        validator = SchemaValidator(_alternating(schema, mark), config)
    except SchemaError:
        return _one_by_one
    # A payload is text that anybody may have sent: two halves of a value in two payloads would become one
    # where they meet. Nobody can write the mark, so what is between two marks is one payload.
    between = f',"{mark}",'.encode()

    def read(payloads: Sequence[bytes]) -> list[Any] | None:
        text = b"[" + between.join(payloads) + b"]"
        try:
            found: Sequence[Any] = validator.validate_json(text, by_alias=True, by_name=True)
        except (ValidationError, RecursionError):
            return None
        return list(found[::2])

    return read


def _one_by_one(_payloads: Sequence[bytes]) -> None:
    """They must be read one by one."""


def _alternating(schema: Mapping[str, Any], mark: str) -> Any:
    """The schema of LOT values with a mark between any two of them."""
    inner = schema["schema"] if schema["type"] == "definitions" else schema
    others = schema["definitions"] if schema["type"] == "definitions" else []
    value = {"type": "definition-ref", "schema_ref": mark}
    marked = {"type": "literal", "expected": [mark]}
    items = [marked if place % 2 else value for place in range(2 * LOT - 1)]
    return {
        "type": "definitions",
        "schema": {"type": "tuple", "items_schema": items},
        "definitions": [*others, {**inner, "ref": mark}],
    }


def _runs_no_code(schema: Any) -> bool:
    """Return True if validation by this core schema calls nothing that the user wrote."""
    if isinstance(schema, list | tuple):
        return all(map(_runs_no_code, schema))
    if not isinstance(schema, Mapping):
        return not callable(schema)
    if not isinstance(schema.get("type"), str):  # the fields of a class, by their names
        return all(map(_runs_no_code, schema.values()))
    return _is_ours(schema) and all(
        _runs_no_code(part) for key, part in schema.items() if key not in NOT_READ
    )


def _is_ours(schema: Mapping[str, Any]) -> bool:
    match schema["type"]:
        case "model":
            plain = schema["cls"].__new__ is object.__new__
            return plain and not schema.get("custom_init") and not schema.get("post_init")
        case "set" | "frozenset":
            return _is_hashed_by_python(schema.get("items_schema"))
        case "dict":
            return _is_hashed_by_python(schema.get("keys_schema"))
        case "default":
            return "default" not in schema or not schema.get("copy_default") or _is_plain(schema["default"])
        case kind:
            return kind in OURS


def _is_hashed_by_python(schema: Mapping[str, Any] | None) -> bool:
    return schema is None or schema["type"] in HASHED


def _is_plain(default: object) -> bool:
    """Return True if a copy of a default runs no user code."""
    return not default and type(default) in (list, dict, set)
