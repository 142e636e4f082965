"""Comparing what was answered or recorded with what a scenario expects, and filling in its variables.

An expected object names only the keys that matter; a list must have the same length. An object with
one key that begins with $ is an operator (OPERATORS) or a generator (GENERATORS).
"""

import os
import re
import time
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any, Final

Variables = Mapping[str, Any]


def differences(expected: Any, actual: Any, path: str = "") -> list[str]:
    """Every place where the two differ, as sentences; empty if there is none."""
    if isinstance(expected, dict):
        operator = next(iter(expected), "") if len(expected) == 1 else ""
        if operator.startswith("$"):
            holds = OPERATORS[operator](expected[operator], actual)
            return [] if holds else [f"{path or 'it'} should be {expected}, is {_short(actual)}"]
        if not isinstance(actual, dict):
            return [f"{path or 'it'} should be an object, is {_short(actual)}"]
        return [
            each
            for key, value in expected.items()
            for each in (
                differences(value, actual[key], f"{path}.{key}".lstrip("."))
                if key in actual
                else [f"{path}.{key} is absent".lstrip(".")]
            )
        ]
    if isinstance(expected, list):
        if not isinstance(actual, list) or len(actual) != len(expected):
            return [f"{path or 'it'} should be {_short(expected)}, is {_short(actual)}"]
        pairs = enumerate(zip(expected, actual, strict=True))
        return [each for at, (one, other) in pairs for each in differences(one, other, f"{path}[{at}]")]
    if _same(expected, actual):
        return []
    return [f"{path or 'it'} should be {_short(expected)}, is {_short(actual)}"]


def _same(expected: Any, actual: Any) -> bool:
    """JSON equality: 1 and 1.0 are one number, true is none."""
    if isinstance(expected, bool) or isinstance(actual, bool):
        return expected is actual
    return bool(expected == actual)


def identical(expected: Any, actual: Any) -> bool:
    """JSON equality of whole values, no key more and none less."""
    if isinstance(expected, dict) and isinstance(actual, dict):
        return expected.keys() == actual.keys() and all(identical(v, actual[k]) for k, v in expected.items())
    if isinstance(expected, list) and isinstance(actual, list):
        return len(expected) == len(actual) and all(map(identical, expected, actual))
    return _same(expected, actual)


def _counted(values: Any) -> "Counter[str]":
    return Counter(map(str, values))


OPERATORS: Final[dict[str, Callable[[Any, Any], bool]]] = {
    "$any": lambda _, actual: True,
    "$exactly": identical,
    "$in": lambda options, actual: any(_same(option, actual) for option in options),
    "$contains": lambda part, actual: part in actual,
    "$nonempty": lambda wanted, actual: bool(actual) is wanted,
    "$length": lambda length, actual: len(actual) == length,
    "$at_least": lambda least, actual: actual >= least,
    "$at_most": lambda most, actual: actual <= most,
    "$same_items": lambda items, actual: _counted(items) == _counted(actual),
    "$each": lambda expected, actual: all(not differences(expected, one) for one in actual),
    "$some": lambda expected, actual: any(not differences(expected, one) for one in actual),
    "$not": lambda expected, actual: bool(differences(expected, actual)),
}


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 400 else text[:400] + "..."


def filled(value: Any, variables: Variables) -> Any:
    """With variables put in: "$name" becomes the value of name, "${name}" within a text its text."""
    if isinstance(value, str):
        if value.startswith("$") and value[1:] in variables:
            return variables[value[1:]]
        return re.sub(r"\$\{(\w+)\}", lambda match: str(variables[match[1]]), value)
    if isinstance(value, list):
        return [each for one in value for each in _spread(one, variables)]
    if isinstance(value, dict):
        name = next(iter(value), "") if len(value) == 1 else ""
        if name in GENERATORS:
            return GENERATORS[name](filled(value[name], variables))
        return {filled(key, variables): filled(one, variables) for key, one in value.items()}
    return value


def _spread(one: Any, variables: Variables) -> list[Any]:
    if isinstance(one, dict) and "$repeat" in one:
        return [filled(one["of"], {**variables, "i": number}) for number in range(one["$repeat"])]
    return [filled(one, variables)]


def uuid7(offset_ms: int) -> str:
    """A new id whose time is this far from now."""
    made_ms = int(time.time() * 1000) + offset_ms
    rest = int.from_bytes(os.urandom(10), "big")
    number = made_ms << 80 | 0x7 << 76 | (rest >> 68 & 0xFFF) << 64 | 0b10 << 62 | rest & (1 << 62) - 1
    text = f"{number:032x}"
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"


GENERATORS: Final[dict[str, Callable[[Any], Any]]] = {
    "$uuid7": uuid7,
    "$text": lambda size: "x" * size,
    "$unicode": lambda size: (
        "a\N{LATIN SMALL LETTER E WITH ACUTE}\N{EURO SIGN}\N{GRINNING FACE}" * (size // 10)
    ),
}


def found(value: Any, path: str) -> Any:
    """A part of an answer: "results.0.task_id"; "*" means each of a list."""
    for at, part in enumerate(path.split(".")):
        if part == "*":
            rest = ".".join(path.split(".")[at + 1 :])
            return [found(one, rest) if rest else one for one in value]
        value = value[int(part)] if isinstance(value, list) else value[part]
    return value
