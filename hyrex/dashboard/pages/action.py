"""An action: the question that comes before it, and what it does.

Each has an address of its own. GET asks (what, and how many); POST does it, and leads back to a page.
"""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Final, TypeAlias

from hyrex.dashboard.pages.machines import valid_id
from hyrex.dashboard.pages.page import FormRefused, Missing, Visit
from hyrex.v1 import admin_service_pb2 as admin

MOST_ITEMS: Final = 1000
LONGEST_REASON: Final = 1000

Form: TypeAlias = Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Field:
    """One input of a question. `kind`: text, number or json."""

    name: str
    label: str
    kind: str = "text"
    value: str = ""
    hint: str = ""


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked before an action. `typed`: the name that must be typed for it; `once`: an id by which
    doing it twice is doing it once."""

    title: str
    sentence: str
    button: str
    back: str
    danger: bool = False
    typed: str = ""
    fields: tuple[Field, ...] = ()
    once: str = ""


@dataclass(frozen=True, slots=True)
class Done:
    """What was done, in words, and the page to go to."""

    words: str
    back: str
    bad: bool = False


@dataclass(frozen=True, slots=True)
class Action:
    """A question and its deed. `scope`: what a token needs for it. The broker judges; pages leave out
    what it would refuse."""

    ask: Callable[[Visit], Awaitable[Question]]
    do: Callable[[Visit, Form], Awaitable[Done]]
    scope: "admin.TokenScope.ValueType" = admin.TOKEN_SCOPE_ADMIN


def ids_of(visit: Visit) -> list[str]:
    """The ids that an address names, each once. Raises: Missing, FormRefused."""
    found = list(dict.fromkeys(valid_id(text) for text in visit.query.getlist("id")))
    if not found:
        raise Missing("no task is selected")
    if len(found) > MOST_ITEMS:
        raise FormRefused(f"more than {MOST_ITEMS} tasks at once; narrow the list")
    return found


def reason_of(form: Form) -> str:
    """The reason that somebody gave, cut to what the broker takes."""
    text = form.get("reason", "").strip() or "asked for on the dashboard"
    return text.encode()[:LONGEST_REASON].decode(errors="ignore")


def tasks_text(count: int) -> str:
    """A number of tasks in words."""
    return "1 task" if count == 1 else f"{count:,} tasks"
