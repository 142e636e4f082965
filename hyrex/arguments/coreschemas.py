"""Which pydantic core schemas prove by themselves that their values are the same after JSON.

A key that is not listed here changes the meaning of a schema (a serialiser, an alias, a validator, a mode of
its own), so a schema with such a key proves nothing.
"""

from collections.abc import Mapping
from enum import Enum, Flag
from typing import Any, Final

from pydantic_core import CoreConfig

__all__ = [
    "ANYWHERE",
    "CONFIG",
    "SCALAR_UNION",
    "config_is_plain",
    "enum_is_exact",
    "literal_is_exact",
    "says_nothing_more",
    "typed_dict_is_plain",
]

# What JSON has no form for, kept exact: bytes as base64, NaN and infinities as strings.
CONFIG: Final = CoreConfig(ser_json_inf_nan="strings", ser_json_bytes="base64", val_json_bytes="base64")

LENGTH: Final = frozenset({"min_length", "max_length"})
RANGE: Final = frozenset({"ge", "gt", "le", "lt", "multiple_of"})
ANYWHERE: Final = frozenset({"type", "ref", "metadata"})

# Keys of a schema that neither change a value nor depend on its origin.
PLAIN_KEYS: Final[Mapping[str, frozenset[str]]] = {
    "any": frozenset(),
    "bool": frozenset({"strict"}),
    "bytes": LENGTH,
    "date": frozenset(),
    "datetime": frozenset({"microseconds_precision"}),
    "default": frozenset(
        {
            "schema",
            "default",
            "default_factory",
            "default_factory_takes_data",
            "validate_default",
            "copy_default",
        }
    ),
    "definition-ref": frozenset({"schema_ref"}),
    "definitions": frozenset({"schema", "definitions"}),
    "dict": LENGTH | {"keys_schema", "values_schema", "strict"},
    "enum": frozenset({"cls", "members", "sub_type", "missing"}),
    "float": RANGE | {"allow_inf_nan"},
    "frozenset": LENGTH | {"items_schema"},
    "int": RANGE | {"strict"},
    "list": LENGTH | {"items_schema", "strict"},
    "literal": frozenset({"expected"}),
    "model": frozenset({"cls", "schema", "config", "custom_init", "root_model", "frozen", "generic_origin"}),
    "model-field": frozenset({"schema", "frozen"}),
    "model-fields": frozenset({"fields", "model_name", "computed_fields", "extra_behavior"}),
    "none": frozenset(),
    "nullable": frozenset({"schema"}),
    "set": LENGTH | {"items_schema"},
    "str": LENGTH | {"pattern", "regex_engine", "strict"},
    "tuple": LENGTH | {"items_schema", "variadic_item_index"},
    "typed-dict": frozenset({"fields", "cls", "config", "extra_behavior", "total", "computed_fields"}),
    "typed-dict-field": frozenset({"schema", "required"}),
    "union": frozenset({"choices"}),
    "uuid": frozenset({"version"}),
}
# Each has a JSON form of its own, so that a union of them cannot read one as another.
SCALAR_UNION: Final = frozenset({"str", "int", "bool", "none"})
PLAIN_CONFIG: Final = frozenset({"title", "extra_fields_behavior", "from_attributes", "validate_assignment"})


def says_nothing_more(schema: Mapping[str, Any]) -> bool:
    """Return True if the meaning of every key of this schema is known here."""
    known = PLAIN_KEYS.get(schema["type"])
    return known is not None and schema.keys() <= known | ANYWHERE


def config_is_plain(config: Mapping[str, Any]) -> bool:
    """Return True if a model's configuration changes neither values nor their JSON form."""
    return config.keys() <= PLAIN_CONFIG and config.get("extra_fields_behavior") != "allow"


def typed_dict_is_plain(schema: Mapping[str, Any]) -> bool:
    """Return True if a TypedDict has CONFIG and allows no keys but its own."""
    config = schema.get("config", {})
    own = {key: value for key, value in config.items() if CONFIG.get(key) != value}
    return own.keys() <= PLAIN_CONFIG and "allow" not in (
        schema.get("extra_behavior"),
        own.get("extra_fields_behavior"),
    )


def enum_is_exact(schema: Mapping[str, Any]) -> bool:
    """Return True if all members have text as values, or all have ints: JSON tells those apart."""
    cls = schema["cls"]
    if issubclass(cls, Flag) or not issubclass(cls, Enum):
        return False
    # A class may define `value` itself: pydantic writes that, but reads by the real one.
    return all(member.value is member._value_ for member in cls) and _of_one_kind(
        [member.value for member in cls]
    )


def literal_is_exact(schema: Mapping[str, Any]) -> bool:
    """Return True if all values are text, or all are ints; `Literal[1, True]` is neither."""
    return _of_one_kind(schema["expected"])


def _of_one_kind(values: list[Any]) -> bool:
    kinds = set(map(type, values))
    return kinds in ({str}, {int})
