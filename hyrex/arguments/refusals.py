"""The error texts for values that JSON would change: the path, the value sent, the value that would arrive,
and the remedy."""

import dataclasses
import math
from collections.abc import Callable, Iterable
from datetime import datetime, time
from typing import Any, Final

from pydantic import BaseModel, ValidationError
from pydantic_core import PydanticSerializationError, to_json

from hyrex.arguments.conversions import lost_in_conversion
from hyrex.arguments.sameness import MISSING, Change, change

__all__ = ["NotKept", "described", "kept_or_refused", "refuse_if_dropped", "unserialisable"]

SHOWN_ERRORS: Final = 5
SHOWN_CHARACTERS: Final = 80
PATH_CHARACTERS: Final = 200
DEPTH_LIMIT: Final = 180
NOT_SENT: Final = "an excluded field, a private attribute and an InitVar are not sent: declare a plain field"
NOT_UNICODE: Final = "send bytes, or text without surrogates"
LONGEST_INT_BITS: Final = 14_284  # 4,300 digits
JSON_TYPES: Final = (str, int, float, bool, type(None), list, dict)


class NotKept(ValueError):
    """A value that would arrive changed, or not at all.

    `outline` is the text without the value, for results: their errors are stored and shown in lists.
    """

    def __init__(self, said: str, *, outline: str = "it would be changed", path: str = "", remedy: str = ""):
        before = f"{path}: " if path else ""
        after = f"; {remedy}" if remedy else ""
        super().__init__(f"{before}{said}{after}")
        self.outline = f"{before}{outline}{after}"


def refuse_if_dropped(given: Any, valid: Any) -> None:
    """Raise NotKept if validation dropped or merged part of what was given."""
    try:
        same = valid is given or bool(valid == given)
    except Exception:  # arrays and other classes whose == gives no bool
        same = False
    if not same and (found := lost_in_conversion(given, valid)):
        path, said, remedy = found
        raise NotKept(said, outline="part of it would be lost", path=path, remedy=remedy)


def kept_or_refused(
    valid: Any, found: bytes, decode: Callable[[bytes], Any], any_sequence: bool = False
) -> None:
    """Raise NotKept unless `decode` returns the value from which these bytes were made."""
    try:
        arrived = decode(found)
    except ValidationError as error:
        raise _unreadable(error, valid) from error
    except Exception as error:
        outline = f"its JSON form cannot be read back: {type(error).__name__}"
        raise NotKept(f"{outline}: {error}", outline=outline) from error
    try:
        difference = change(valid, arrived, any_sequence)
    except RecursionError as error:
        text = "nested too deeply, or in itself"
        raise NotKept(text, outline=text) from error
    if difference is not None:
        raise told(difference)


def _unreadable(error: ValidationError, valid: Any) -> NotKept:
    """The refusal of a value whose JSON, written by pydantic, pydantic does not read."""
    found = error.errors(include_url=False, include_context=False)[0]
    if found["type"] == "json_invalid":
        return unserialisable(valid, error)
    path = _path(found["loc"])
    value = _at(valid, found["loc"], MISSING)
    if isinstance(value, float) and not math.isfinite(value):
        said, remedy = f"{value!r} has no form in JSON", "set ser_json_inf_nan='strings' for its class"
    elif found["type"] == "missing":
        said, remedy = "it would not be sent, and is required", NOT_SENT
    else:
        sent = "" if value is MISSING else f"{_shown(value)} is written as "
        said = f"{sent}{_shown(found['input'])}, which cannot be read back ({found['msg']})"
        remedy = "hint a type that pydantic reads from the JSON it writes, or send plain values"
    return NotKept(said, outline="its JSON form cannot be read back", path=path, remedy=remedy)


def told(difference: Change) -> NotKept:
    """The refusal of a value that would arrive changed: the path, both values and the remedy."""
    path = _shortened(difference.path.lstrip("."), PATH_CHARACTERS)
    outline = _outlined(difference.sent, difference.arrived)
    return NotKept(_said(difference), outline=outline, path=path, remedy=_remedy(difference))


def _outlined(sent: Any, arrived: Any) -> str:
    if sent is MISSING or arrived is MISSING:
        return "it would not arrive" if arrived is MISSING else "more would arrive than there is"
    if type(sent) is type(arrived):
        return f"{_named(sent)} would arrive as another"
    return f"{_named(sent)} would arrive as {_named(arrived)}"


def _said(found: Change) -> str:
    sent, arrived = _shown(found.sent), _shown(found.arrived)
    if found.is_key and type(found.sent) is str and not _is_unicode(found.sent):
        return f"the key {sent} is not valid Unicode and would arrive as {arrived}"
    if found.is_key:
        return f"the key {sent} is {_named(found.sent)} and would arrive as {arrived}"
    if found.arrived is MISSING:
        return f"{sent} would not arrive"
    if found.sent is MISSING:
        return f"{arrived} would arrive, where nothing was sent"
    if type(found.sent) is type(found.arrived) or isinstance(found.sent, float):
        return f"{sent} would arrive as {arrived}"
    return f"{_named(found.sent)} would arrive as {_named(found.arrived)} ({sent} as {arrived})"


def _remedy(found: Change) -> str:
    sent, arrived = found.sent, found.arrived
    if found.is_private or sent is MISSING or arrived is MISSING:
        return NOT_SENT
    if hasattr(sent, "get_secret_value"):
        return "a secret is not written into a payload: send its name, and read it in the task"
    if isinstance(sent, datetime | time) and type(sent) is type(arrived):
        return "use a zone, or UTC: the JSON form holds an offset in whole minutes and no fold"
    if found.is_key and type(sent) is str and not _is_unicode(sent):
        return NOT_UNICODE
    if found.is_key:
        return "JSON has only str keys: give the keys one type in the hint, or use a list of pairs"
    if _has_fields(sent) and _has_fields(arrived) and type(sent) is not type(arrived):
        if isinstance(sent, type(arrived)):
            return f"the hint knows only the fields of the base class: hint {type(sent).__qualname__}"
        return "give the hint's union a discriminator (Field(discriminator=...)), or hint one class"
    if type(sent) is type(arrived):
        return (
            "a field that is excluded, or a validator or serialiser that is not undone on the way back, "
            "does not survive: declare it otherwise, or send plain values"
        )
    if isinstance(sent, float) and not math.isfinite(sent):
        return "it is not a JSON value: hint float for the parameter itself, or send None or text"
    if type(arrived) in JSON_TYPES and type(sent) not in JSON_TYPES:
        return f"it is not a JSON value: give it a hint that says what it is ({type(sent).__qualname__})"
    return "hint one type only, or put the two under different names"


def described(error: ValidationError, with_values: bool = True) -> str:
    """pydantic's findings, one line each; `with_values` only if the text goes to the sender alone."""
    found = error.errors(include_url=False, include_context=False)
    shown = [_one_described(dict(one), with_values) for one in found[:SHOWN_ERRORS]]
    if len(found) > SHOWN_ERRORS:
        shown.append(f"and {len(found) - SHOWN_ERRORS} more")
    return "; ".join(shown)


def _one_described(one: dict[str, Any], with_values: bool) -> str:
    path = _path(one["loc"])
    got = f" (got {_shown(one['input'])})" if with_values else ""
    unknown = one["type"] in ("extra_forbidden", "unexpected_keyword_argument")
    remedy = "; leave it out, or hint a class that has it" if unknown else ""
    return f"{path + ': ' if path else ''}{one['msg']}{got}{remedy if with_values else ''}"


def _path(loc: Iterable[Any]) -> str:
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in loc).lstrip(".")


def _at(value: Any, path: Iterable[Any], otherwise: Any) -> Any:
    """The part of a value at this path; `otherwise` if the path cannot be followed."""
    for part in path:
        try:
            value = getattr(value, part) if _has_fields(value) else value[part]
        except Exception:
            return otherwise
    return value


def unserialisable(valid: Any, error: Exception) -> NotKept:
    """The refusal of a value that has no JSON form, with the path of the part that is the reason."""
    found = None if isinstance(error, RecursionError) else _unwritable_part(valid, "", 0)
    if found is None:
        return NotKept(f"cannot be written as JSON: {error}", outline="it cannot be written as JSON")
    path, value, reason = found
    shown = _shown(value) if type(value) in JSON_TYPES else f"{_named(value)} ({_shown(value)})"
    return NotKept(f"{shown} {reason}", outline=f"{_named(value)} {reason}", path=path.lstrip("."))


def _unwritable_part(value: Any, path: str, depth: int) -> tuple[str, Any, str] | None:
    if depth > DEPTH_LIMIT:
        reason = f"is nested deeper than {DEPTH_LIMIT} levels, or in itself; send a flat form of it"
        return path[:PATH_CHARACTERS] + "...", value, reason
    parts = _parts(value)
    if parts is None:
        return _unwritable(value, path)
    for step, part in parts:
        if found := _unwritable_part(part, path + step, depth + 1):
            return found
    return None


def _unwritable(value: Any, path: str) -> tuple[str, Any, str] | None:
    if isinstance(value, str):
        return None if _is_unicode(value) else (path, value, f"is not valid Unicode; {NOT_UNICODE}")
    if isinstance(value, int) and value.bit_length() > LONGEST_INT_BITS:
        return path, value, "has more than 4,300 digits, and no JSON reader takes it; send text, hex(n)"
    try:
        to_json(value, bytes_mode="base64")
    except (PydanticSerializationError, RecursionError):
        return path, value, "is not a JSON value; give it a hint that says what it is"
    return None


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _parts(value: Any) -> list[tuple[str, Any]] | None:
    """The members of a value, each with its step of the path; None if it has no members."""
    if isinstance(value, dict):
        keys = [("", key) for key in value if isinstance(key, str) and not key.isascii()]
        return keys + [
            (f".{k}" if isinstance(k, str) and k.isidentifier() else f"[{k!r}]", v) for k, v in value.items()
        ]
    if isinstance(value, list | tuple | set | frozenset):
        return [(f"[{index}]", item) for index, item in enumerate(value)]
    if isinstance(value, BaseModel):
        return [(f".{name}", item) for name, item in value.__dict__.items()]
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return [(f".{f.name}", getattr(value, f.name, None)) for f in dataclasses.fields(value)]
    return None


def _has_fields(value: Any) -> bool:
    return isinstance(value, BaseModel) or dataclasses.is_dataclass(value)


def _shown(value: Any) -> str:
    try:
        return _shortened(repr(value), SHOWN_CHARACTERS)
    except Exception:  # user code, or an int too long for text
        return f"<{type(value).__qualname__}>"


def _shortened(text: str, characters: int) -> str:
    return text if len(text) <= characters else text[:characters] + "..."


def _named(value: Any) -> str:
    kind = type(value)
    name = kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
    return f"{'an' if name[0] in 'aeiou' else 'a'} {name}"
