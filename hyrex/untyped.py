"""Where the hints of a task leave a value undescribed.

A bare `dict`, `list` or `Any` holds JSON values only. `build_check` reads a pydantic core schema
once and keeps a check for just those places, so that typed arguments cost nothing.
"""

from collections.abc import Callable, Iterable
from typing import Any, Final

from hyrex.jsonvalues import check_float, check_json, check_key

__all__ = ["Check", "build_check"]

Check = Callable[[Any, str], None]


def build_check(schema: Any) -> Check | None:
    """The check for all untyped places below this pydantic core schema; None if there are none."""
    return _Builder().build(schema, finite_only=False)


class _Builder:
    """Walks a core schema; definitions may refer to themselves, so their checks are looked up late."""

    def __init__(self) -> None:
        self._definitions: dict[str, Any] = {}
        self._built: dict[tuple[str, bool], Check | None] = {}

    def build(self, schema: Any, finite_only: bool) -> Check | None:
        """`finite_only`: floats here would become null if they are NaN or infinite."""
        if "serialization" in schema:
            return None  # a serialiser of the user's own decides what is lost
        match schema["type"]:
            case "any":
                return check_json
            case "float":
                return check_float if finite_only else None
            case "definitions":
                self._definitions |= {d["ref"]: d for d in schema["definitions"]}
                return self.build(schema["schema"], finite_only)
            case "definition-ref":
                return self._reference(schema["schema_ref"], finite_only)
            case "dict":
                return self._mapping(schema, finite_only)
            case "list" | "set" | "frozenset":
                item = self.build(schema.get("items_schema", {"type": "any"}), finite_only)
                return item and _each(item)
            case "tuple":
                return self._tuple(schema, finite_only)
            case "model":
                return self._model(schema)
            case "dataclass":
                return self._attributes(_by_name(_inner_fields(schema)), _nan_is_lost(schema))
            case "named-tuple":
                return self._attributes(_by_name(schema["fields"]), finite_only)
            case "typed-dict":
                return self._typed_dict(schema, finite_only)
            case "union":
                return self._union(
                    [c[0] if isinstance(c, tuple) else c for c in schema["choices"]], finite_only
                )
            case "tagged-union":
                return self._union(
                    [c for c in schema["choices"].values() if isinstance(c, dict)], finite_only
                )
            case "nullable":
                inner = self.build(schema["schema"], finite_only)
                return inner and _unless_none(inner)
            case _:
                return self._wrapped(schema, finite_only)

    def _wrapped(self, schema: Any, finite_only: bool) -> Check | None:
        for name in ("schema", "python_schema", "lax_schema"):
            if isinstance(schema.get(name), dict) and "type" in schema[name]:
                return self.build(schema[name], finite_only)
        return None

    def _reference(self, ref: str, finite_only: bool) -> Check | None:
        key = (ref, finite_only)
        if key not in self._built:
            self._built[key] = lambda value, path: _late(self._built[key], value, path)
            self._built[key] = self.build(self._definitions[ref], finite_only)
        return self._built[key]

    def _mapping(self, schema: Any, finite_only: bool) -> Check | None:
        kind = schema.get("keys_schema", {"type": "any"})["type"]
        str_keys = kind in ("any", "str")  # JSON has no others; a surrogate in one is lost in silence
        values = self.build(schema.get("values_schema", {"type": "any"}), finite_only)
        if values is check_json and str_keys:
            return check_json
        if values is None and not str_keys:
            return None

        def check(value: Any, path: str) -> None:
            for key, item in value.items():
                below = check_key(key, path) if str_keys else f"{path}[{key!r}]"
                if values is not None:
                    values(item, below)

        return check

    def _tuple(self, schema: Any, finite_only: bool) -> Check | None:
        checks = [self.build(item, finite_only) for item in schema["items_schema"]]
        variadic = schema.get("variadic_item_index")
        if not any(checks):
            return None

        def check(value: Any, path: str) -> None:
            for index, item in enumerate(value):
                at = min(index, variadic) if variadic is not None else index
                one = checks[at] if at < len(checks) else checks[-1]
                if one is not None:
                    one(item, f"{path}[{index}]")

        return check

    def _model(self, schema: Any) -> Check | None:
        finite_only = _nan_is_lost(schema)
        inner = schema["schema"]
        while "fields" not in inner and isinstance(inner.get("schema"), dict):
            inner = inner["schema"]
        if schema.get("root_model"):
            root = self.build(inner, finite_only)
            return root and (lambda value, path: root(value.root, path))
        fields = {name: field["schema"] for name, field in inner.get("fields", {}).items()}
        known = self._attributes(fields, finite_only)
        if schema.get("config", {}).get("extra_fields_behavior") != "allow":
            return known

        def check(value: Any, path: str) -> None:
            if known is not None:
                known(value, path)
            check_json(value.__pydantic_extra__ or {}, path)

        return check

    def _attributes(self, fields: dict[str, Any], finite_only: bool) -> Check | None:
        checks = self._some((name, self.build(schema, finite_only)) for name, schema in fields.items())
        if not checks:
            return None

        def check(value: Any, path: str) -> None:
            for name, one in checks:
                one(getattr(value, name), f"{path}.{name}" if path else name)

        return check

    def _typed_dict(self, schema: Any, finite_only: bool) -> Check | None:
        checks = self._some((n, self.build(f["schema"], finite_only)) for n, f in schema["fields"].items())
        if not checks:
            return None

        def check(value: Any, path: str) -> None:
            for name, one in checks:
                if name in value:
                    one(value[name], f"{path}.{name}" if path else name)

        return check

    def _some(self, pairs: Iterable[tuple[str, Check | None]]) -> list[tuple[str, Check]]:
        return [(name, check) for name, check in pairs if check is not None]

    def _union(self, choices: list[Any], finite_only: bool) -> Check | None:
        branches = [(self._kind(choice), self.build(choice, finite_only)) for choice in choices]
        if not any(check for _, check in branches):
            return None

        def check(value: Any, path: str) -> None:
            for kind, one in branches:
                if isinstance(value, kind):
                    if one is not None:
                        one(value, path)
                    return

        return check

    def _kind(self, schema: Any) -> type:
        if schema["type"] == "definition-ref":
            return self._kind(self._definitions[schema["schema_ref"]])
        found = KINDS.get(schema["type"]) or schema.get("cls")
        return found if isinstance(found, type) else object if schema["type"] == "any" else _Nothing


def _nan_is_lost(schema: Any) -> bool:
    """Models and dataclasses go by their own configuration, which makes NaN null unless it says otherwise."""
    return bool(schema.get("config", {}).get("ser_json_inf_nan", "null") == "null")


def _inner_fields(schema: Any) -> list[Any]:
    while "schema" in schema:  # validators may wrap the fields
        schema = schema["schema"]
    return list(schema["fields"])


def _by_name(fields: Iterable[Any]) -> dict[str, Any]:
    return {field["name"]: field["schema"] for field in fields}


class _Nothing:
    """Matches no value: a branch of a union whose values need no check."""


KINDS: Final[dict[str, type]] = {
    "dict": dict,
    "typed-dict": dict,
    "list": list,
    "set": set,
    "frozenset": frozenset,
    "tuple": tuple,
    "str": str,
    "int": int,
    "float": float,
    "bool": bool,
}


def _each(item: Check) -> Check:
    def check(value: Any, path: str) -> None:
        for index, one in enumerate(value):
            item(one, f"{path}[{index}]")

    return check


def _unless_none(inner: Check) -> Check:
    def check(value: Any, path: str) -> None:
        if value is not None:
            inner(value, path)

    return check


def _late(check: Check | None, value: Any, path: str) -> None:
    if check is not None:
        check(value, path)
