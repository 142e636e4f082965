"""Arguments and results as bytes: JSON made and read by pydantic, never pickle.

A payload is an object {parameter name: value}. Models are built once per task, at its first use.
Whatever cannot make the round trip unchanged is refused while the caller can still see why.
"""

import functools
import json
from collections.abc import Callable
from typing import Any, Final, NotRequired

from pydantic import ConfigDict, PydanticUserError, TypeAdapter, ValidationError, with_config
from pydantic_core import (
    CoreConfig,
    PydanticSerializationError,
    SchemaSerializer,
    SchemaValidator,
    from_json,
    to_json,
)
from typing_extensions import TypedDict  # pydantic reads only this one below Python 3.12

from hyrex.errors import ArgumentInvalid, ResultInvalid, ResultNotSerializable
from hyrex.jsonvalues import NotJson
from hyrex.signature import TaskSignature
from hyrex.untyped import build_check

__all__ = ["ArgumentsCodec", "ResultCodec"]

# What JSON has no form for, kept exact: bytes as base64, NaN and infinities as strings.
CONFIG: Final = CoreConfig(ser_json_inf_nan="strings", ser_json_bytes="base64", val_json_bytes="base64")
SHOWN_ERRORS: Final = 5
SHOWN_CHARACTERS: Final = 80


class ArgumentsCodec:
    """Encodes and decodes the arguments of one task."""

    def __init__(self, signature: TaskSignature) -> None:
        self._task_name = signature.task_name
        schema = _arguments_schema(signature)
        self._validator = SchemaValidator(schema, CONFIG)
        self._to_json = _dumper(schema)
        self._check = build_check(schema)

    def encode(self, arguments: dict[str, Any]) -> bytes:
        """Validated arguments as JSON; raises ArgumentInvalid naming task and path."""
        try:
            valid = self._validator.validate_python(arguments, by_alias=True, by_name=True)
            if self._check is not None:
                self._check(valid, "")
            return self._to_json(valid)
        except ValidationError as error:
            raise ArgumentInvalid(f"{self._task_name}: {_described(error)}") from error
        except (NotJson, PydanticSerializationError, RecursionError) as error:
            raise ArgumentInvalid(f"{self._task_name}: {error}") from error

    def decode(self, payload: bytes) -> dict[str, Any]:
        """Validated arguments by parameter name; raises ArgumentInvalid."""
        try:
            found: dict[str, Any] = self._validator.validate_json(payload, by_alias=True, by_name=True)
        except ValidationError as error:
            raise ArgumentInvalid(f"{self._task_name}: {_described(error)}") from error
        return found


class ResultCodec:
    """Encodes and decodes the result of one task, by its return annotation where it has one."""

    def __init__(self, signature: TaskSignature) -> None:
        self._task_name = signature.task_name
        self._validator: SchemaValidator | None = None
        hint = signature.hints.get("return", Any)
        if hint is not Any:
            schema = _schema_of(hint, f"task {signature.task_name}: return annotation")
            self._validator = SchemaValidator(schema, CONFIG)
            self._to_json = _dumper(schema)

    def encode(self, value: Any) -> bytes:
        """The value as JSON; raises ResultNotSerializable."""
        try:
            if self._validator is None:
                return _portable(
                    to_json(value, by_alias=False, bytes_mode="base64", inf_nan_mode="constants")
                )
            valid = self._validator.validate_python(value, by_alias=True, by_name=True)
            return _portable(self._to_json(valid))
        except ValidationError as error:
            text = f"{self._task_name} returned what its annotation forbids: {_described(error)}"
            raise ResultNotSerializable(text) from error
        except (PydanticSerializationError, RecursionError, ValueError, TypeError) as error:
            text = f"{self._task_name} returned what cannot be stored as JSON: {error}"
            raise ResultNotSerializable(text) from error

    def decode(self, result: bytes) -> Any:
        """The value of a stored result; raises ResultInvalid."""
        try:
            if self._validator is None:
                return from_json(result) if result else None
            return self._validator.validate_json(result, by_alias=True, by_name=True)
        except ValueError as error:
            described = _described(error) if isinstance(error, ValidationError) else str(error)
            raise ResultInvalid(f"result of {self._task_name}: {described}") from error


def _arguments_schema(signature: TaskSignature) -> Any:
    """A core schema for {name: value} in which parameters with defaults may be missing."""
    hints = signature.hints
    fields = {
        name: hints[name] if name in signature.required else NotRequired[hints[name]]
        for name in signature.names
    }
    arguments = TypedDict("arguments", fields)  # type: ignore[misc]  # made at run time
    return _schema_of(with_config(ConfigDict(extra="forbid"))(arguments), f"task {signature.task_name}")


def _schema_of(hint: Any, where: str) -> Any:
    try:
        return _configured(TypeAdapter(hint).core_schema)
    except PydanticUserError as error:
        raise TypeError(f"{where}: {error.message}") from error


def _configured(schema: Any) -> Any:
    """A copy in which each TypedDict has CONFIG: their validators, alone of all, do not inherit it."""
    if isinstance(schema, list):
        return [_configured(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    copy = {key: _configured(value) for key, value in schema.items()}
    if copy.get("type") == "typed-dict":
        copy["config"] = {**CONFIG, **copy.get("config", {})}
    return copy


def _portable(result: bytes) -> bytes:
    """The same JSON; raises ValueError where it holds NaN or Infinity, which only Python reads."""
    if b"NaN" in result or b"Infinity" in result:
        json.loads(result, parse_constant=_refuse_constant)
    return result


def _refuse_constant(text: str) -> None:
    raise ValueError(f"{text} is not a JSON value")


def _dumper(schema: Any) -> Callable[[Any], bytes]:
    """Dumps what was just validated; only an object that changed after it was made can fail to fit."""
    strict = _holds_objects(schema)
    # The check for those costs 1.5 us, five times the rest.
    options: Any = {"warnings": "error"} if strict else {}
    return functools.partial(
        SchemaSerializer(schema, CONFIG).to_json, round_trip=True, by_alias=False, **options
    )


def _holds_objects(schema: Any) -> bool:
    if isinstance(schema, list):
        return any(map(_holds_objects, schema))
    if not isinstance(schema, dict):
        return False
    return schema.get("type") in ("model", "dataclass") or any(map(_holds_objects, schema.values()))


def _described(error: ValidationError) -> str:
    found = error.errors(include_url=False, include_context=False)
    shown = [_one_described(dict(one)) for one in found[:SHOWN_ERRORS]]
    if len(found) > SHOWN_ERRORS:
        shown.append(f"and {len(found) - SHOWN_ERRORS} more")
    return "; ".join(shown)


def _one_described(one: dict[str, Any]) -> str:
    path = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in one["loc"]).lstrip(".")
    got = repr(one["input"])
    if len(got) > SHOWN_CHARACTERS:
        got = got[:SHOWN_CHARACTERS] + "..."
    return f"{path + ': ' if path else ''}{one['msg']} (got {got})"
