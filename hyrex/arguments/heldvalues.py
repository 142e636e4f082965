"""Tests whether the values in a model are of the types of its fields.

pydantic does not validate an instance that it is given, although code may have set anything in it. For each
field there is a set of types or a test; both cost much less than a round trip.
"""

import math
from collections.abc import Callable, Collection, Iterable, Mapping
from datetime import UTC, date, datetime
from operator import itemgetter
from typing import Any, Final
from uuid import UUID

from hyrex.arguments.coreschemas import (
    ANYWHERE,
    SCALAR_UNION,
    config_is_plain,
    enum_is_exact,
    literal_is_exact,
    says_nothing_more,
)
from hyrex.arguments.jsonvalues import has_plain_keys, is_json

__all__ = ["Fit", "HeldValues", "always", "each", "fits_datetime", "never"]

Fit = Callable[[Any], bool]
Kinds = frozenset[type]

KINDS: Final[Mapping[str, Kinds]] = {
    "str": frozenset({str}),
    "int": frozenset({int}),
    "bool": frozenset({bool}),
    "none": frozenset({type(None)}),
    "uuid": frozenset({UUID}),
    "date": frozenset({date}),
}
CONSTRAINTS: Final = frozenset(
    {"min_length", "max_length", "pattern", "ge", "gt", "le", "lt", "multiple_of", "version", "allow_inf_nan"}
)


def always(_value: Any) -> bool:
    """The schema proves every value."""
    return True


def never(_value: Any) -> bool:
    """The schema proves no value."""
    return False


def fits_datetime(value: Any) -> bool:
    """Return True unless there is a zone or a fold, which an offset does not represent."""
    if type(value) is not datetime:
        return False
    zone = value.tzinfo
    return zone is UTC or (zone is None and not value.fold)


def fits_float(value: Any) -> bool:
    """Return True for a float that JSON can represent; a model would write null for the others."""
    return type(value) is float and math.isfinite(value)


class HeldValues:
    """Builds the tests. `reference` finds those of definitions when they are used: these may be recursive."""

    def __init__(self, reference: Callable[[str], Fit]) -> None:
        self._reference = reference

    def fit(self, schema: Mapping[str, Any]) -> Fit:
        """The test of one value under this schema."""
        return _as_fit(self._find(schema))

    def _find(self, schema: Mapping[str, Any]) -> Kinds | Fit:
        if not says_nothing_more(schema) or schema.keys() & CONSTRAINTS:
            return never
        kind = schema["type"]
        if kind in KINDS:
            return KINDS[kind]
        match kind:
            case "float":
                return fits_float
            case "datetime":
                return fits_datetime
            case "any":
                return is_json
            case "default":
                return self._find(schema["schema"])
            case "enum":
                return frozenset({schema["cls"]}) if enum_is_exact(schema) else never
            case "literal":
                return _literal(schema)
            case "nullable":
                return _or_none(self._find(schema["schema"]))
            case "union":
                return _union(schema["choices"])
            case "definition-ref":
                return self._reference(schema["schema_ref"])
            case _:
                return self._container(schema)

    def _container(self, schema: Mapping[str, Any]) -> Fit:
        match schema["type"]:
            case "list":
                return _list_of(self._find(schema.get("items_schema", {"type": "any"})))
            case "dict":
                return self._mapping(schema)
            case "model":
                return self.model(schema)
            case _:
                return never

    def _mapping(self, schema: Mapping[str, Any]) -> Fit:
        keys = schema.get("keys_schema", {"type": "any"})
        if keys["type"] not in ("any", "str") or keys.keys() - ANYWHERE:
            return never
        values = _list_of(self._find(schema.get("values_schema", {"type": "any"})))
        if values is never:
            return never
        return lambda value: type(value) is dict and has_plain_keys(value) and values(list(value.values()))

    def model(self, schema: Mapping[str, Any]) -> Fit:
        """The test of a model: it is of exactly this class, and each field passes its own test."""
        inner = schema["schema"]
        if not (says_nothing_more(schema) and says_nothing_more(inner) and _is_plain_model(schema, inner)):
            return never
        found = {
            name: self._find(field["schema"]) if says_nothing_more(field) else never
            for name, field in inner["fields"].items()
        }
        if never in found.values():
            return never
        return ModelTest(schema["cls"], found)


def _is_plain_model(schema: Mapping[str, Any], inner: Mapping[str, Any]) -> bool:
    return not (
        schema.get("root_model")
        or schema.get("custom_init")
        or schema["cls"].__private_attributes__
        or inner.get("extra_behavior") == "allow"
        or not config_is_plain(schema.get("config", {}))
    )


class ModelTest:
    """Tests a model: it is of exactly this class, and each field passes its own test."""

    __slots__ = ("_cls", "_tested", "_typed")

    def __init__(self, cls: type, found: Mapping[str, Kinds | Fit]) -> None:
        self._cls = cls
        self._typed = [(name, kinds) for name, kinds in found.items() if isinstance(kinds, frozenset)]
        self._tested = [(name, fit) for name, fit in found.items() if not isinstance(fit, frozenset)]

    def __call__(self, value: Any) -> bool:
        if type(value) is not self._cls:
            return False
        held = value.__dict__
        for name, kinds in self._typed:
            if name not in held or type(held[name]) not in kinds:
                return False
        for name, fit in self._tested:  # noqa: SIM110  a generator costs more
            if name not in held or not fit(held[name]):
                return False
        return True

    def each(self, values: Collection[Any]) -> bool:
        """Test many models field by field: a third of the cost of one after the other."""
        if not frozenset((self._cls,)).issuperset(map(type, values)):
            return False
        held = [value.__dict__ for value in values]
        try:
            return all(
                kinds.issuperset(map(type, map(itemgetter(name), held))) for name, kinds in self._typed
            ) and all(each(fit, map(itemgetter(name), held)) for name, fit in self._tested)
        except KeyError:
            return False  # a field was deleted


def each(fit: Fit, values: Iterable[Any]) -> bool:
    """Return True if all values pass the test."""
    if isinstance(fit, ModelTest):
        return fit.each(list(values))
    return all(map(fit, values))


def _as_fit(found: Kinds | Fit) -> Fit:
    if isinstance(found, frozenset):
        kinds = found
        return lambda value: type(value) in kinds
    return found


def _list_of(item: Kinds | Fit) -> Fit:
    if item is never:
        return never
    if isinstance(item, frozenset):
        kinds = item
        return lambda value: type(value) is list and kinds.issuperset(map(type, value))
    fit = item
    return lambda value: type(value) is list and each(fit, value)


def _or_none(found: Kinds | Fit) -> Kinds | Fit:
    if found is never:
        return never
    if isinstance(found, frozenset):
        return found | {type(None)}
    fit = found
    return lambda value: value is None or fit(value)


def _union(choices: list[Any]) -> Kinds | Fit:
    found: Kinds = frozenset()
    for choice in choices:
        if not isinstance(choice, dict) or choice["type"] not in SCALAR_UNION:
            return never
        if choice.keys() & CONSTRAINTS or not says_nothing_more(choice):
            return never
        found |= KINDS[choice["type"]]
    return found


def _literal(schema: Mapping[str, Any]) -> Fit:
    if not literal_is_exact(schema):
        return never
    allowed = frozenset(schema["expected"])
    kind = type(schema["expected"][0])
    return lambda value: type(value) is kind and value in allowed
