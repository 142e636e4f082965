"""Describes what a run raised, in text that can be stored.

Errors are user code: their `str()`, their attributes and their formatting may raise anything, even
SystemExit, or give text of any size. So each part is read on its own, and nothing here raises.
"""

import importlib
import os
import traceback
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, Final, TypeVar

import hyrex
from hyrex.worker.shared.outcome import ErrorInfo
from hyrex.worker.shared.places import own_place

T = TypeVar("T")

TYPE_CHARACTERS: Final = 200
MESSAGE_CHARACTERS: Final = 10_000
TRACEBACK_CHARACTERS: Final = 50_000
_PLACE_CHARACTERS: Final = 500
_LAST_FRAMES: Final = 1_100  # are shown of each error: enough for a recursion up to Python's own limit
_LONGEST_CHAIN: Final = 50
_LARGE_CHARACTERS: Final = 1_000_000  # formatting copies a message several times
_HERE: Final = str(Path(hyrex.__file__).parent) + os.sep
_IMPORTING: Final = ("<frozen importlib", importlib.import_module.__code__.co_filename)
"""Python's own frames between this package and a module of the user that it imports."""

# The slots of the base classes: a user's class may replace each of these names with a property that raises.
_type_name: Final[Any] = type.__dict__["__name__"]
_traceback: Final[Any] = BaseException.__dict__["__traceback__"]
_cause: Final[Any] = BaseException.__dict__["__cause__"]
_context: Final[Any] = BaseException.__dict__["__context__"]


def attempt(make: Callable[[], T], otherwise: Callable[[BaseException], T]) -> T:
    """Return what `make` returns; if it raises anything at all, what `otherwise` returns for the error."""
    try:
        return make()
    except BaseException as error:
        return otherwise(error)


def describe(error: BaseException) -> ErrorInfo:
    """Describe what a run or an import raised, without the frames before the user's; never raises."""
    kind = storable(_type_name.__get__(type(error)), TYPE_CHARACTERS)
    message = attempt(lambda: str(error), lambda odd: f"<its __str__ raised {_name_of(odd)}>")
    shown = storable(message, MESSAGE_CHARACTERS)
    trace = _outside(_traceback.__get__(error))
    lines = attempt(lambda: _lines(error, trace, message), lambda _: _plain_lines(trace, kind, shown))
    place = attempt(lambda: own_place(trace), lambda _: "")
    return ErrorInfo(kind, shown, storable(lines, TRACEBACK_CHARACTERS, end=True), _place(trace), place)


def storable(text: str, most: int, *, end: bool = False) -> str:
    """The first (or last) characters of a text; what UTF-8 or Postgres cannot store is escaped.

    `text` may be of a subclass of str, whose methods may do anything: none of them is called.
    """
    part = str.__getitem__(text, slice(-most, None) if end else slice(most))
    clean = part.encode("utf-8", "backslashreplace").decode().replace("\0", "\\x00")
    return clean[-most:] if end else clean[:most]


def _name_of(error: BaseException) -> str:
    return str(_type_name.__get__(type(error)))


def _outside(trace: TracebackType | None) -> TracebackType | None:
    """The part of a traceback from the first frame that is neither of this package nor of an import by it."""
    while trace is not None and trace.tb_frame.f_code.co_filename.startswith((_HERE, *_IMPORTING)):
        trace = trace.tb_next
    return trace


def _place(trace: TracebackType | None) -> str:
    """The innermost line outside of this package: of user code, or of a library that it called."""
    found = trace
    while trace is not None:
        if not trace.tb_frame.f_code.co_filename.startswith(_HERE):
            found = trace
        trace = trace.tb_next
    if found is None:
        return ""
    code = found.tb_frame.f_code
    return storable(f"{code.co_filename}:{found.tb_lineno} in {code.co_name}", _PLACE_CHARACTERS, end=True)


def _lines(error: BaseException, trace: TracebackType | None, message: str) -> str:
    if str.__len__(message) > _LARGE_CHARACTERS or _chain_is_long(error):
        raise ValueError("too large to format")
    return "".join(traceback.format_exception(type(error), error, trace, limit=-_LAST_FRAMES))


def _plain_lines(trace: TracebackType | None, kind: str, message: str) -> str:
    frames = attempt(lambda: "".join(traceback.format_tb(trace, -_LAST_FRAMES)), lambda _: "")
    return f"{frames}{kind}: {message}\n"


def _chain_is_long(error: BaseException) -> bool:
    """Return True if the error has more causes than are worth formatting; a circle of causes is not long."""
    seen: set[int] = set()
    at: BaseException | None = error
    while at is not None and id(at) not in seen:
        if len(seen) > _LONGEST_CHAIN:
            return True
        seen.add(id(at))
        cause = _cause.__get__(at)
        at = _context.__get__(at) if cause is None else cause
    return False
