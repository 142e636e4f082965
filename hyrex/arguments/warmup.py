"""What pydantic makes when it first meets a kind of value, made before any task's value is met.

A task's first call does not meet every kind: one that takes `int | Decimal` may get its first Decimal after
years. See hyrex/arguments/coder.py for what a fork at that moment would do.
"""

from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum
from typing import Any, Final
from uuid import UUID

from pydantic_core import SchemaSerializer, SchemaValidator, ValidationError, to_json
from pydantic_core import core_schema as schemas

__all__ = ["meet_every_kind"]

_Colour = Enum("_Colour", ["RED"])

EXAMPLES: Final[tuple[tuple[Any, Any], ...]] = (
    (schemas.any_schema(), [None, {"a": 1}]),
    (schemas.bool_schema(), True),
    (schemas.bytes_schema(), b"a"),
    (schemas.complex_schema(), 1j),
    (schemas.date_schema(), date(2026, 1, 2)),
    (schemas.datetime_schema(), datetime(2026, 1, 2, tzinfo=UTC)),
    (schemas.decimal_schema(), Decimal(1)),
    (schemas.dict_schema(), {"a": 1}),
    (schemas.float_schema(), 1.5),
    (schemas.frozenset_schema(), frozenset({1})),
    (schemas.int_schema(), 1),
    (schemas.list_schema(), [1]),
    (schemas.none_schema(), None),
    (schemas.set_schema(), {1}),
    (schemas.str_schema(), "a"),
    (schemas.time_schema(), time(1)),
    (schemas.timedelta_schema(), timedelta(1)),
    (schemas.tuple_schema([schemas.any_schema()]), (1,)),
    (schemas.uuid_schema(), UUID(int=1)),
)


def meet_every_kind() -> None:
    """Validate, write and read a value of each kind, and refuse another. Takes about a millisecond."""
    for schema, value in EXAMPLES:
        validator, serializer = SchemaValidator(schema), SchemaSerializer(schema)
        validator.validate_json(serializer.to_json(validator.validate_python(value)))
        try:
            validator.validate_python(_Colour)
        except ValidationError as error:
            error.errors()
    to_json([value for _, value in EXAMPLES] + [_Colour.RED])
