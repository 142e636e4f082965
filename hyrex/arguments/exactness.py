"""Which arguments a pydantic core schema proves to be the same after a round trip through JSON.

A schema is read once. Either it proves this for all values (`always`), or a quick test of each value is
needed for what schemas do not say: the members of an untyped dict, the fields of a model, which code may have
changed. For all other schemas nothing is proven, and each value makes the round trip.
"""

from collections.abc import Mapping
from typing import Any, Final

from hyrex.arguments.coreschemas import (
    ANYWHERE,
    SCALAR_UNION,
    enum_is_exact,
    literal_is_exact,
    says_nothing_more,
    typed_dict_is_plain,
)
from hyrex.arguments.heldvalues import Fit, HeldValues, always, each, fits_datetime, never
from hyrex.arguments.jsonvalues import has_plain_keys, is_json

__all__ = ["always", "exact_when", "never"]

UNTYPED: Final = {"type": "any"}


def exact_when(schema: Mapping[str, Any]) -> Fit:
    """A test of values that this schema's validator made: True if JSON certainly keeps them."""
    return _Proof().fit(schema)


class _Proof:
    """Reads a core schema whose config is payload.CONFIG; its definitions may refer to themselves."""

    def __init__(self) -> None:
        self._definitions: dict[str, Any] = {}
        self._references: dict[str, Fit] = {}
        self._held = HeldValues(self._reference)

    def fit(self, schema: Mapping[str, Any]) -> Fit:
        if not says_nothing_more(schema):
            return never
        match schema["type"]:
            case "str" | "int" | "float" | "bool" | "none" | "bytes" | "date" | "uuid":
                return always
            case "datetime":
                return fits_datetime
            case "any":
                return is_json
            case "enum":
                return always if enum_is_exact(schema) else never
            case "literal":
                return always if literal_is_exact(schema) else never
            case "union":
                return _union(schema["choices"])
            case "nullable":
                return _unless_none(self.fit(schema["schema"]))
            case "model":
                return self._held.model(schema)
            case "definitions":
                self._definitions |= {d["ref"]: d for d in schema["definitions"]}
                return self.fit(schema["schema"])
            case "definition-ref":
                return self._reference(schema["schema_ref"])
            case _:
                return self._container(schema)

    def _reference(self, ref: str) -> Fit:
        if ref not in self._references:
            self._references[ref] = lambda value: self._references[ref](value)  # noqa: PLW0108  late
            # A definition serves both for what validators made and for what models hold.
            self._references[ref] = self._held.fit(self._definitions[ref])
        return self._references[ref]

    def _container(self, schema: Mapping[str, Any]) -> Fit:
        match schema["type"]:
            case "list" | "set" | "frozenset":
                return _each(self.fit(schema.get("items_schema", UNTYPED)))
            case "dict":
                return self._mapping(schema)
            case "tuple":
                return self._tuple(schema)
            case "typed-dict":
                return self._typed_dict(schema)
            case _:
                return never

    def _mapping(self, schema: Mapping[str, Any]) -> Fit:
        keys = schema.get("keys_schema", UNTYPED)
        kind = keys["type"]
        values = self.fit(schema.get("values_schema", UNTYPED))
        if values is never or kind not in ("any", "str", "int") or keys.keys() - ANYWHERE:
            return never
        if kind == "int":
            return values if values is always else lambda value: each(values, value.values())
        if values is always:
            return has_plain_keys
        return lambda value: has_plain_keys(value) and each(values, value.values())

    def _tuple(self, schema: Mapping[str, Any]) -> Fit:
        fits = [self.fit(item) for item in schema["items_schema"]]
        if never in fits:
            return never
        if all(fit is always for fit in fits):
            return always
        if schema.get("variadic_item_index") is not None:
            return _each(fits[0]) if len(fits) == 1 else never
        return lambda value: all(fit(item) for fit, item in zip(fits, value, strict=True))

    def _typed_dict(self, schema: Mapping[str, Any]) -> Fit:
        found = self.fields(schema)
        if found is None or not typed_dict_is_plain(schema):
            return never
        if not found:
            return always

        def fits(value: Any) -> bool:
            for name, fit in found:  # noqa: SIM110  a generator costs more
                if name in value and not fit(value[name]):
                    return False
            return True

        return fits

    def fields(self, schema: Mapping[str, Any]) -> list[tuple[str, Fit]] | None:
        """The fields whose values need a test; None if one of them can never be proven."""
        if any(not says_nothing_more(field) for field in schema["fields"].values()):
            return None
        fits = [(name, self.fit(field["schema"])) for name, field in schema["fields"].items()]
        if any(fit is never for _, fit in fits):
            return None
        return [(name, fit) for name, fit in fits if fit is not always]


def _union(choices: list[Any]) -> Fit:
    exact = all(
        isinstance(one, dict) and one["type"] in SCALAR_UNION and one.keys() <= ANYWHERE for one in choices
    )
    return always if exact else never


def _unless_none(fit: Fit) -> Fit:
    if fit is always or fit is never:
        return fit
    return lambda value: value is None or fit(value)


def _each(fit: Fit) -> Fit:
    if fit is always or fit is never:
        return fit
    return lambda value: each(fit, value)
