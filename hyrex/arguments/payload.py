"""Arguments and results as bytes: JSON made and read by pydantic, never pickle.

A payload is an object {parameter name: value}. Models are built once per task, at its first use. A value that
would be changed by the round trip is refused when it is sent, where the caller can see why: unless the schema
proves that it is kept, the encoded value is decoded and compared.
"""

from collections.abc import Collection, Iterator
from typing import Any, Final, NotRequired

from pydantic import PydanticSchemaGenerationError, PydanticUserError, TypeAdapter, ValidationError
from pydantic_core import (
    CoreConfig,
    PydanticSerializationError,
    SchemaError,
    SchemaSerializer,
    SchemaValidator,
    from_json,
)
from typing_extensions import TypedDict  # pydantic reads only this one below Python 3.12

from hyrex.arguments.conversions import can_lose
from hyrex.arguments.coreschemas import CONFIG
from hyrex.arguments.exactness import always, exact_when
from hyrex.arguments.lots import LotReader, lot_reader
from hyrex.arguments.refusals import NotKept, described, kept_or_refused, refuse_if_dropped, unserialisable
from hyrex.arguments.signature import TaskSignature
from hyrex.arguments.unannotated import encode_freely
from hyrex.arguments.warmup import meet_every_kind
from hyrex.errors import ArgumentInvalid, ResultInvalid, ResultNotSerializable

__all__ = ["ArgumentsCodec", "ResultCodec"]

# Python reads no int of more digits from text, and neither does pydantic.
DIGITS_LIMIT: Final = 4_300
WINDOW: Final = DIGITS_LIMIT // 2
# Errors of validation are stored with their traceback and shown in lists: no values in them.
HIDING: Final = CoreConfig({**CONFIG, "hide_input_in_errors": True})

meet_every_kind()  # in the thread that loads this: forks wait for it


class _RoundTrip:
    """Encodes values by one core schema, and refuses those that would not come back unchanged."""

    def __init__(self, schema: Any, where: str) -> None:
        self._encoding = SchemaValidator(_configured(schema, extra="forbid"), HIDING)
        schema = _configured(schema)
        self._decoding = SchemaValidator(schema, HIDING)
        self._serializer = SchemaSerializer(schema, CONFIG)
        self._exact = exact_when(schema)
        kinds = set(_kinds(schema))
        if "generator" in kinds:
            raise TypeError(f"{where}: an Iterable can be read only once; hint Sequence or list instead")
        self._has_ints = not kinds.isdisjoint({"int", "any"})
        self._any_sequence = "json-or-python" in kinds and "list" in kinds
        self._can_lose = can_lose(schema)

    def encode(self, value: Any) -> bytes:
        """The value as JSON; raises ValidationError or NotKept."""
        valid = self._encoding.validate_python(value, by_alias=True, by_name=True)
        if self._can_lose:
            refuse_if_dropped(value, valid)
        try:
            exact = self._exact is always or self._exact(valid)
        except RecursionError:
            exact = False  # nested in itself, or too deeply: what writes it as JSON says so
        try:
            found = self._serializer.to_json(valid, round_trip=True, by_alias=False, warnings=False)
        except (PydanticSerializationError, RecursionError) as error:
            raise unserialisable(valid, error) from error
        if exact and not (self._has_ints and len(found) > DIGITS_LIMIT and _may_hold_long_int(found)):
            return found
        kept_or_refused(valid, found, self.decode, self._any_sequence)
        return found

    def decode(self, found: bytes) -> Any:
        """The value from its JSON; raises ValidationError."""
        return self._decoding.validate_json(found, by_alias=True, by_name=True)


class ArgumentsCodec:
    """Encodes and decodes the arguments of one task; `names`: only these, of those that it has."""

    def __init__(self, signature: TaskSignature, names: Collection[str] | None = None) -> None:
        self._task_name = signature.task_name
        where = f"task {signature.task_name}"
        self._trip = _RoundTrip(_arguments_schema(signature, where, names), where)
        self._signature = signature

    def encode(self, arguments: dict[str, Any]) -> bytes:
        """Validated arguments as JSON; raises ArgumentInvalid naming task and path."""
        try:
            return self._trip.encode(arguments)
        except ValidationError as error:
            raise ArgumentInvalid(f"{self._task_name}: {described(error)}") from error
        except NotKept as error:
            raise ArgumentInvalid(f"{self._task_name}: {error}") from error.__cause__

    def decode(self, payload: bytes) -> dict[str, Any]:
        """Validated arguments by parameter name; raises ArgumentInvalid."""
        try:
            found: dict[str, Any] = self._trip.decode(payload)
        except ValidationError as error:
            text = described(error, with_values=False)  # it is stored, and shown in lists
            raise ArgumentInvalid(f"{self._task_name}: {text}") from error
        return found

    def lot_reader(self) -> LotReader:
        """What decodes the arguments of LOT calls at once, if nothing is wrong with any of them."""
        return lot_reader(_configured(_arguments_schema(self._signature, self._task_name)), HIDING)


class ResultCodec:
    """Encodes and decodes the result of one task, by its return annotation if it has one."""

    def __init__(self, signature: TaskSignature) -> None:
        self._task_name = signature.task_name
        self._trip: _RoundTrip | None = None
        self._annotation = "a task without a return annotation"
        if "return" in signature.hints:
            hint = signature.hints["return"]
            where = f"task {signature.task_name}: return annotation"
            self._trip = _RoundTrip(_schema_of(hint, where), where)
            self._annotation = f"its return annotation {getattr(hint, '__qualname__', hint)}"

    def encode(self, value: Any) -> bytes:
        """The value as JSON; raises ResultNotSerializable."""
        try:
            if self._trip is None:
                return encode_freely(value)
            return self._trip.encode(value)
        except ValidationError as error:
            text = described(error, with_values=False)  # it is stored, and shown in lists
            text = f"{self._task_name} returned what its annotation forbids: {text}"
            raise ResultNotSerializable(text) from error
        except NotKept as error:
            text = f"{self._task_name} returned what {self._annotation} cannot bring back: {error.outline}"
            raise ResultNotSerializable(text) from error.__cause__

    def decode(self, result: bytes) -> Any:
        """The value of a stored result; raises ResultInvalid."""
        try:
            if self._trip is None:
                return from_json(result) if result else None
            return self._trip.decode(result)
        except ValueError as error:
            text = described(error) if isinstance(error, ValidationError) else str(error)
            raise ResultInvalid(f"result of {self._task_name}: {text}") from error


def _arguments_schema(signature: TaskSignature, where: str, names: Collection[str] | None = None) -> Any:
    """The schema of {name: value}; parameters with defaults may be missing, unknown names are refused."""
    hints = signature.hints
    fields = {
        name: hints[name] if name in signature.required else NotRequired[hints[name]]
        for name in signature.names
        if names is None or name in names
    }
    arguments = TypedDict("arguments", fields)  # type: ignore[misc]  # made at run time
    try:
        schema = _schema_of(arguments, where)
    except TypeError:
        for name in fields:
            _schema_of(hints[name], f"{where}: parameter {name!r}")
        raise
    inner = schema["schema"] if schema["type"] == "definitions" else schema
    forbidding = {**inner, "extra_behavior": "forbid"}  # as a config, classes below would inherit it
    return {**schema, "schema": forbidding} if inner is not schema else forbidding


def _schema_of(hint: Any, where: str) -> Any:
    try:
        adapter: TypeAdapter[Any] = TypeAdapter(hint)
        if not isinstance(adapter.core_schema, dict):
            adapter.rebuild(force=True)  # a class with defer_build
        return adapter.core_schema
    except PydanticSchemaGenerationError as error:
        kind = error.message.split(". ")[0].removeprefix("Unable to generate pydantic-core schema for ")
        raise TypeError(
            f"{where}: {kind} has no form that can be sent; hint what it is made of (text, numbers, a "
            "pydantic model), and make it anew in the task"
        ) from error
    except PydanticUserError as error:
        raise TypeError(f"{where}: {error.message}") from error
    except SchemaError as error:
        raise TypeError(f"{where}: {str(error).splitlines()[-1].strip()}") from error


def _configured(schema: Any, extra: str | None = None) -> Any:
    """A copy in which each TypedDict has CONFIG, which only their validators do not inherit.

    `extra="forbid"`: a TypedDict or dataclass that would drop unknown keys refuses them instead. Else a value
    of another TypedDict than the hinted one would lose its own keys.
    """
    if isinstance(schema, list):
        return [_configured(item, extra) for item in schema]
    if isinstance(schema, tuple):
        return tuple(_configured(item, extra) for item in schema)
    if not isinstance(schema, dict):
        return schema
    copy = {key: _configured(value, extra) for key, value in schema.items()}
    if copy.get("type") == "typed-dict":
        config = copy.get("config", {})
        copy["config"] = {**CONFIG, **config}
        if extra is not None and config.get("extra_fields_behavior") != "allow":
            copy["extra_behavior"] = extra
    elif copy.get("type") == "dataclass" and extra is not None:
        _arguments_of(copy)["extra_behavior"] = copy.get("config", {}).get("extra_fields_behavior", extra)
    return copy


def _arguments_of(dataclass_schema: dict[str, Any]) -> dict[str, Any]:
    """The fields of a dataclass's schema, without the schemas of validators around them."""
    found = dataclass_schema
    while found["type"] != "dataclass-args" and isinstance(found.get("schema"), dict):
        found = found["schema"]
    return found


def _kinds(schema: Any) -> Iterator[str]:
    """Yield the type of every part of a core schema."""
    if isinstance(schema, dict):
        if isinstance(schema.get("type"), str):
            yield schema["type"]
        schema = list(schema.values())
    if isinstance(schema, list | tuple):
        for part in schema:
            yield from _kinds(part)


def _may_hold_long_int(found: bytes) -> bool:
    """Return True if more than DIGITS_LIMIT digits may follow each other in these bytes."""
    return any(found[at : at + WINDOW].isdigit() for at in range(0, len(found) - WINDOW + 1, WINDOW))
