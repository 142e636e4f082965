r"""A filter of tasks as one line of text, the same in the terminal and on the dashboard.

    queue:mail name:send* status:failed label.tenant:7 error:Timeout at:shop.mail:* older:1h

Words are separated by spaces; all of them must apply. A word that is said twice names alternatives, except
for labels, which must all apply. `*` stands for any text in queues, names, error types and places. A value
with spaces or quotation marks stands in double quotation marks, in which a backslash takes the next character
as it is; a star too, which stands for any text even there: `name:"50\*"` asks for that name alone. This
module needs neither broker nor gRPC.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

from hyrex.errors import HyrexError
from hyrex.runtime import patterns
from hyrex.status import TaskStatus

__all__ = ["LABEL", "STATUSES", "TASK_ID", "WORDS", "FilterLine", "FilterLineError", "is_sayable", "parse"]

STATUSES: Final = tuple(str(each) for each in TaskStatus if each is not TaskStatus.RELEASED)
WORDS: Final = (
    "queue",
    "name",
    "status",
    "dead",
    "workflow",
    "error",
    "at",
    "parent",
    "root",
    "older",
    "newer",
)
"""What a word may begin with, beside `label.KEY`."""
PATTERNS: Final = ("queue", "name", "error", "at")
"""Those of them whose value is a pattern."""
LABEL: Final = "label."
_UNITS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}
_AGE: Final = re.compile(r"(\d{1,9})([smhdw])", re.ASCII)
TASK_ID: Final = re.compile(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}", re.ASCII)
_PLAIN: Final = re.compile(r'[^\s"\\]+')
_MOST_BYTES: Final = 255


class FilterLineError(HyrexError, ValueError):
    """A word of a filter means nothing: `word` is the word, `remedy` what to write instead."""

    def __init__(self, word: str, remedy: str) -> None:
        super().__init__(f"{word!r}: {remedy}")
        self.word = word
        self.remedy = remedy


@dataclass(frozen=True, slots=True)
class FilterLine:
    """What a line asks for. Empty or None: not asked. Queues, names, error types and places are patterns, in
    which `hyrex.runtime.patterns.escaped` has a text stand for itself."""

    queues: tuple[str, ...] = ()
    names: tuple[str, ...] = ()
    statuses: tuple[str, ...] = ()
    dead: bool = False
    workflows: bool = False
    labels: dict[str, str] = field(default_factory=dict)
    error_types: tuple[str, ...] = ()
    error_places: tuple[str, ...] = ()
    parent: str = ""
    root: str = ""
    older_s: int | None = None
    younger_s: int | None = None

    def __bool__(self) -> bool:
        """False where it asks for nothing: every task fits."""
        return self != FilterLine()

    def text(self) -> str:
        """The line in its shortest form, words in one order; `parse` reads it as the same filter."""
        return " ".join(self._words())

    def _words(self) -> Iterator[str]:
        for word, values in {"queue": self.queues, "name": self.names}.items():
            yield from (f"{word}:{_quoted_pattern(value)}" for value in values)
        yield from (f"status:{_quoted(value)}" for value in self.statuses)
        if self.dead:
            yield "dead:yes"
        if self.workflows:
            yield "workflow:yes"
        for key, value in sorted(self.labels.items()):
            yield f"{_quoted(LABEL + key)}:{_quoted(value)}"
        yield from (f"error:{_quoted_pattern(value)}" for value in self.error_types)
        yield from (f"at:{_quoted_pattern(value)}" for value in self.error_places)
        for word, value in (("parent", self.parent), ("root", self.root)):
            if value:
                yield f"{word}:{value}"
        for word, seconds in (("older", self.older_s), ("newer", self.younger_s)):
            if seconds is not None:
                yield f"{word}:{_age_text(seconds)}"


def parse(line: str) -> FilterLine:
    """The filter of a line. Raises FilterLineError, which names the word and the remedy."""
    try:
        line.encode()
    except UnicodeEncodeError:
        raise FilterLineError(line, "write it in UTF-8") from None
    said: dict[str, list[str]] = {word: [] for word in WORDS}
    labels: dict[str, str] = {}
    for key, pattern, word in _words_of(line):
        value = "*".join(patterns.parts_of(pattern))
        if not value and not key.startswith(LABEL):
            raise FilterLineError(word, f"write a value after {key}: without a space")
        if key.startswith(LABEL):
            _add_label(labels, key.removeprefix(LABEL), value, word)
        elif key not in said:
            raise FilterLineError(word, f"a word begins with one of {_known_words()}")
        else:
            said[key].append(_CHECKS[key](pattern if key in PATTERNS else value, word))
    return FilterLine(
        queues=_distinct(said["queue"]),
        names=_distinct(said["name"]),
        statuses=_distinct(said["status"]),
        dead=bool(said["dead"]),
        workflows=bool(said["workflow"]),
        labels=labels,
        error_types=_distinct(said["error"]),
        error_places=_distinct(said["at"]),
        parent=_once(said["parent"], "parent"),
        root=_once(said["root"], "root"),
        older_s=_seconds(_once(said["older"], "older")),
        younger_s=_seconds(_once(said["newer"], "newer")),
    )


def is_sayable(value: str) -> bool:
    """True if a filter can ask for this value."""
    return len(value.encode("utf-8", "replace")) <= _MOST_BYTES and "\0" not in value


def _words_of(line: str) -> Iterator[tuple[str, str, str]]:
    """Key, value and text of each word. The value is a pattern: its stars are those outside of quotation
    marks, and those in them that no backslash takes as they are."""
    place = 0
    while (place := _next(line, place)) < len(line):
        begin = place
        key, value, colon = "", "", False
        while place < len(line) and not line[place].isspace():
            part, place = _part(line, place, begin)
            for literal, character in part:
                if character == ":" and not literal and not colon:
                    colon = True
                elif colon:
                    value += literal or character
                else:
                    key += character
        word = line[begin:place]
        if not colon:
            raise FilterLineError(word, f"write {_suggested(key)}, or another of {_known_words()}")
        yield key, value, word


def _part(line: str, place: int, begin: int) -> tuple[list[tuple[str, str]], int]:
    """Some characters, before each what a pattern has for it where it stands in quotation marks; and the
    place after them."""
    if line[place] != '"':
        found = _PLAIN.match(line, place)
        if found is None:
            raise FilterLineError(line[begin : place + 1], "write a backslash only inside quotation marks")
        return [("", character) for character in found[0]], found.end()
    characters: list[tuple[str, str]] = []
    place += 1
    while place < len(line) and line[place] != '"':
        taken = line[place] == "\\" and place + 1 < len(line)
        place += taken
        star = line[place] == "*" and not taken
        characters.append(("*" if star else patterns.escaped(line[place]), line[place]))
        place += 1
    if place >= len(line):
        raise FilterLineError(line[begin:], 'end it with "')
    return characters, place + 1


def _next(line: str, place: int) -> int:
    while place < len(line) and line[place].isspace():
        place += 1
    return place


def _suggested(key: str) -> str:
    if key in STATUSES:
        return f"status:{key}"
    if TASK_ID.fullmatch(key):
        return f"parent:{key} or root:{key} (hyrex task get shows one task)"
    return f"name:{key}"


def _known_words() -> str:
    return ", ".join([*(f"{word}:" for word in WORDS), f"{LABEL}KEY:"])


def _pattern(value: str, word: str) -> str:
    parts = patterns.parts_of(value)
    if len(parts) > patterns.MOST_STARS + 1:
        raise FilterLineError(word, f"use at most {patterns.MOST_STARS} stars")
    if len("*".join(parts).encode()) > _MOST_BYTES or "\0" in value:
        raise FilterLineError(word, f"it may have {_MOST_BYTES} bytes, and no NUL")
    return value


def _status(value: str, word: str) -> str:
    if value not in STATUSES:
        raise FilterLineError(word, f"statuses are {', '.join(STATUSES)}")
    return value


def _yes(value: str, word: str) -> str:
    if value != "yes":
        raise FilterLineError(word, "write dead:yes, for dead letters only")
    return value


def _yes_workflow(value: str, word: str) -> str:
    if value != "yes":
        raise FilterLineError(word, "write workflow:yes, for runs of workflows only")
    return value


def _id(value: str, word: str) -> str:
    if not TASK_ID.fullmatch(value):
        raise FilterLineError(word, "write a task's whole id, a UUID")
    return value.lower()


def _age(value: str, word: str) -> str:
    if _AGE.fullmatch(value) is None or not int(value[:-1]):
        raise FilterLineError(word, "write an age such as 30s, 15m, 1h, 7d or 2w")
    return value


_CHECKS: Final = {
    "queue": _pattern, "name": _pattern, "error": _pattern, "at": _pattern, "status": _status, "dead": _yes,
    "workflow": _yes_workflow,
    "parent": _id, "root": _id, "older": _age, "newer": _age,
}  # fmt: skip


def _add_label(labels: dict[str, str], key: str, value: str, word: str) -> None:
    if not key or "\0" in key + value:
        raise FilterLineError(word, f"write {LABEL}KEY:VALUE, as in {LABEL}tenant:7")
    if labels.setdefault(key, value) != value:
        raise FilterLineError(word, f"label {key} cannot be {labels[key]} and {value} at once")


def _distinct(values: list[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(values))


def _once(values: list[str], key: str) -> str:
    if len(set(values)) > 1:
        raise FilterLineError(f"{key}:{values[1]}", f"say {key}: once")
    return values[0] if values else ""


def _seconds(age: str) -> int | None:
    return int(age[:-1]) * _UNITS[age[-1]] if age else None


def _age_text(seconds: int) -> str:
    unit = next(unit for unit, size in reversed(_UNITS.items()) if seconds % size == 0)
    return f"{seconds // _UNITS[unit]}{unit}"


def _quoted(text: str) -> str:
    if text and _PLAIN.fullmatch(text) and ":" not in text:
        return text
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def _quoted_pattern(pattern: str) -> str:
    """A pattern escapes with a backslash as quotation marks do."""
    if pattern and _PLAIN.fullmatch(pattern) and ":" not in pattern:
        return pattern
    return '"' + pattern.replace('"', '\\"') + '"'
