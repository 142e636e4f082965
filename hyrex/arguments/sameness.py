"""Compares what arrived with what was sent: the same value and the same type, at every level.

A few differences are allowed, because JSON has one form for both and code rarely depends on them: a time zone
arrives as its offset, a value hinted `Sequence` as a list, an int as the equal float where a float is hinted,
and an instance of a subclass of a plain type (of `str`, for instance) as the plain type.
docs/reference/arguments.md lists them.
"""

import dataclasses
import functools
import math
from collections import deque
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum
from typing import Any, Final
from uuid import UUID

from pydantic import BaseModel

__all__ = ["Change", "change"]

BY_EQUALITY: Final = frozenset({str, int, bool, type(None), bytes, UUID, date, timedelta})
PLAIN: Final = BY_EQUALITY | {float, datetime, time, Decimal}
MISSING: Final = type("Missing", (), {"__repr__": lambda _: "nothing"})()


@dataclasses.dataclass(slots=True)
class Change:
    """The first value that would arrive changed, and the path to it."""

    sent: Any
    arrived: Any
    is_key: bool = False
    is_private: bool = False
    path: str = ""

    def under(self, step: str) -> "Change":
        """The same change with a path from one level further up."""
        self.path = step + self.path
        return self


def change(sent: Any, arrived: Any, any_sequence: bool = False) -> Change | None:
    """The first difference; None if there is none. `any_sequence`: a hint says `Sequence`."""
    return _Comparison(any_sequence).find(sent, arrived)


class _Comparison:
    def __init__(self, any_sequence: bool) -> None:
        self._any_sequence = any_sequence

    def find(self, sent: Any, arrived: Any) -> Change | None:
        kind = type(sent)
        if kind is not type(arrived):
            return self._of_two_types(sent, arrived)
        if kind in BY_EQUALITY:
            return None if sent == arrived else Change(sent, arrived)
        if isinstance(sent, Enum):
            return None if sent is arrived or sent == arrived else Change(sent, arrived)
        if isinstance(sent, BaseModel):
            return self._models(sent, arrived)
        if isinstance(sent, dict):
            return self._mappings(sent, arrived)
        if isinstance(sent, list | tuple | deque):
            return self._sequences(sent, arrived)
        if isinstance(sent, set | frozenset):
            return self._sets(sent, arrived)
        if dataclasses.is_dataclass(sent):
            return self._attributes(sent, arrived)
        return self._leaves(sent, arrived)

    def _leaves(self, sent: Any, arrived: Any) -> Change | None:
        if isinstance(sent, float):
            same = repr(sent) == repr(arrived)  # for NaN and for the sign of zero
        elif isinstance(sent, complex):
            same = repr(sent) == repr(arrived)
        elif isinstance(sent, Decimal):
            same = sent.as_tuple() == arrived.as_tuple()
        elif isinstance(sent, datetime | time):
            same = _same_moment(sent, arrived)
        elif _defines_equality(type(sent)):
            same = _equal(sent, arrived)
        elif _state(sent):
            return self._attributes(sent, arrived)
        else:
            same = sent is arrived
        return None if same else Change(sent, arrived)

    def _of_two_types(self, sent: Any, arrived: Any) -> Change | None:
        base = type(arrived)
        listed = base is list and isinstance(sent, Sequence) and not isinstance(sent, str | bytes)
        if listed and self._any_sequence:
            return self._sequences(sent, arrived)
        plain = base in PLAIN and isinstance(sent, base) and not isinstance(sent, Enum | bool)
        if plain and not getattr(sent, "__dict__", None) and self._same_as(base, sent, arrived):
            return None
        if base is float and type(sent) is int and sent == arrived:
            return None  # `float` is hinted, and an int may be given for one
        return Change(sent, arrived)

    @staticmethod
    def _same_as(base: type, sent: Any, arrived: Any) -> bool:
        if issubclass(base, datetime | time):
            return _same_moment(sent, arrived)
        return _equal(sent, arrived) or (base is float and math.isnan(sent) and math.isnan(arrived))

    def _sequences(self, sent: Any, arrived: Any) -> Change | None:
        if len(sent) != len(arrived) or getattr(sent, "maxlen", None) != getattr(arrived, "maxlen", None):
            return Change(sent, arrived)
        for index, (one, other) in enumerate(zip(sent, arrived, strict=True)):
            if type(one) is type(other) and type(one) in BY_EQUALITY and one == other:
                continue
            if found := self.find(one, other):
                return found.under(f"[{index}]")
        return None

    def _mappings(self, sent: Mapping[Any, Any], arrived: Mapping[Any, Any]) -> Change | None:
        if getattr(sent, "default_factory", None) is not getattr(arrived, "default_factory", None):
            return Change(sent, arrived)
        for (key, value), (other_key, other) in zip(sent.items(), arrived.items(), strict=False):
            if found := self.find(key, other_key):
                return Change(found.sent if not found.path else key, other_key, is_key=True)
            if type(value) is type(other) and type(value) in BY_EQUALITY and value == other:
                continue
            if found := self.find(value, other):
                return found.under(_step(key))
        return None if len(sent) == len(arrived) else Change(sent, arrived)

    def _sets(self, sent: AbstractSet[Any], arrived: AbstractSet[Any]) -> Change | None:
        others = {item: item for item in arrived}
        for item in sent:
            if item not in others or self.find(item, others[item]):
                return Change(item, others.get(item, arrived), is_key=True)
        return None if len(sent) == len(arrived) else Change(sent, arrived)

    def _models(self, sent: BaseModel, arrived: BaseModel) -> Change | None:
        return (
            self._named(_fields(sent), _fields(arrived))
            or self._named(sent.__pydantic_extra__ or {}, arrived.__pydantic_extra__ or {})
            or self._named(_private(sent), _private(arrived), is_private=True)
        )

    def _attributes(self, sent: Any, arrived: Any) -> Change | None:
        return self._named(_state(sent), _state(arrived))

    def _named(
        self, sent: Mapping[str, Any], arrived: Mapping[str, Any], is_private: bool = False
    ) -> Change | None:
        for name in sent if sent.keys() == arrived.keys() else dict.fromkeys((*sent, *arrived)):
            one, other = sent.get(name, MISSING), arrived.get(name, MISSING)
            if type(one) is type(other) and type(one) in BY_EQUALITY and one == other:
                continue
            if found := self.find(one, other):
                found.is_private |= is_private
                return found.under(f".{name}")
        return None


def _same_moment(sent: Any, arrived: Any) -> bool:
    if sent.replace(tzinfo=None, fold=0) != arrived.replace(tzinfo=None, fold=0):
        return False
    if sent.tzinfo is None:
        return arrived.tzinfo is None and bool(sent.fold == arrived.fold)
    return bool(arrived.tzinfo is not None and sent.utcoffset() == arrived.utcoffset())


def _defines_equality(kind: type) -> bool:
    return any("__eq__" in cls.__dict__ for cls in kind.__mro__[:-1])


def _equal(sent: Any, arrived: Any) -> bool:
    """Equality of objects whose class defines it; of arrays and frames, equality of every element."""
    try:
        said = sent == arrived
        while not isinstance(said, bool) and hasattr(said, "all"):
            answer = said.all()
            if type(answer) is type(said):
                return bool(answer)
            said = answer
        return bool(said)
    except Exception:
        return False


def _fields(model: BaseModel) -> dict[str, Any]:
    held = model.__dict__
    return {name: held[name] for name in type(model).model_fields if name in held}


def _private(model: BaseModel) -> dict[str, Any]:
    return model.__pydantic_private__ or {}


def _state(value: Any) -> dict[str, Any]:
    """The attributes of an instance, in its `__dict__` and its slots, without cached properties."""
    kind = type(value)
    held = {
        name: item
        for name, item in getattr(value, "__dict__", {}).items()
        if not isinstance(getattr(kind, name, None), functools.cached_property)
    }
    for cls in kind.__mro__:
        slots = cls.__dict__.get("__slots__", ())
        for name in (slots,) if isinstance(slots, str) else slots:
            if name not in ("__dict__", "__weakref__") and hasattr(value, name):
                held[name] = getattr(value, name)
    return held


def _step(key: Any) -> str:
    return f".{key}" if isinstance(key, str) and key.isidentifier() else f"[{key!r}]"
