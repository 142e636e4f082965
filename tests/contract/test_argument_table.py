"""Each kind of argument and result through a real broker and worker, and the page that says so.

`HYREX_WRITE_DOCS=1 pytest tests/contract/test_argument_table.py` writes the page anew.
"""

import os
import re
from collections.abc import Iterator
from pathlib import Path
from textwrap import wrap
from typing import Any, Final

import pytest

from hyrex import ArgumentInvalid, TaskFailed, TaskHandle
from hyrex.task import coder_of
from tests.contract.kinds import KINDS, TASKS, Kind, shape

PAGE: Final = Path(__file__).parents[2] / "docs" / "reference" / "arguments.md"
WAIT_S: Final = 60.0
THE_SAME: Final = "the same"
REFUSED: Final = "refused: "
WIDTH: Final = 100  # of a line of a page (scripts/pages.py)

HEAD: Final = """# Arguments and results

An argument arrives equal in value and type, or in one of the normal forms below; otherwise `send()`
raises `ArgumentInvalid`, and nothing is sent. The same holds for results: one that would change
fails its run with `ResultNotSerializable`, which names the return annotation.

Some hints prove that a value arrives as it is: `str`, `int`, `float`, `bool`, `bytes`, dates,
UUIDs, enums of text or ints, and lists, dicts and models of those. Such a value is sent at once.
Any other is decoded again before it is sent, and compared; so its validators and serialisers run
once more.

## Normal forms

- What the hint converts arrives converted, as pydantic does it: `"3"` under `int` as `3`, a dict
  under a model as that model, a tuple under `list` as a list, text through the validators of its
  hint.
- An int under `float` arrives as the equal float.
- An instance of a subclass of a plain type (`numpy.float64`, pendulum's `DateTime`, a `StrEnum`
  under `str`) arrives as the plain type.
- A time zone arrives as its offset: the same moment with another `tzinfo`.
- A value under `Sequence` arrives as a list.
- A value under `Json[...]` arrives parsed.
- All fields of a model count as set (`model_fields_set`).
- The result of a task without a return annotation comes back as JSON: a model as a dict, a tuple as
  a list, a date as text. It is refused if even that would lose something.

`tests/contract/test_argument_table.py` sends each value of the following lists through a broker and
a worker, as an argument and as a result, and writes the lists.
"""


@pytest.fixture(scope="module")
def outcomes(shared_broker: Any, shared_worker: Any) -> Iterator[list[tuple[str, str]]]:
    """For each kind, what became of it as an argument and as a result."""
    from hyrex.client.process import close_client

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HYREX_BROKER_URL", shared_broker.url)
        sent = [_sent(kind, *tasks) for kind, tasks in zip(KINDS, TASKS, strict=True)]
        yield [
            (_outcome(kind, argument), _outcome(kind, result))
            for kind, (argument, result) in zip(KINDS, sent, strict=True)
        ]
        close_client()


def _sent(kind: Kind, argument: Any, result: Any) -> tuple[Any, Any]:
    return _handle_or_error(argument, kind.value), _handle_or_error(result)


def _handle_or_error(task: Any, *arguments: Any) -> Any:
    try:
        coder_of(task).build()  # as a worker does before it serves anything
        return task.send(*arguments)
    except (ArgumentInvalid, TypeError) as error:
        return error


def _outcome(kind: Kind, handle: Any) -> str:
    if isinstance(handle, Exception):
        return REFUSED + _remedy(str(handle))
    assert isinstance(handle, TaskHandle)
    try:
        found = handle.result(timeout=WAIT_S)
    except TaskFailed as failed:
        kind_of_error, message = failed.type, failed.message
    else:
        kind_of_error = message = ""
    if kind_of_error:
        assert kind_of_error == "ResultNotSerializable", message
        return REFUSED + _remedy(message)
    arrived = found if handle.task_name.startswith("argument") else shape(found)
    if arrived == shape(kind.value):
        return THE_SAME
    return f"as {_normal_form(kind, arrived)}"


def _normal_form(kind: Kind, arrived: str) -> str:
    """What the kind says of it; a form that it does not name is a silent change."""
    if isinstance(kind.normal, str) and "TzInfo" in arrived:
        return kind.normal
    assert kind.normal is not None, f"{kind.hint}: {shape(kind.value)} arrived as {arrived}"
    assert arrived == shape(kind.normal)
    return f"`{kind.normal!r}`"


def _remedy(message: str) -> str:
    said = message.rsplit("; ", 1)
    return said[-1] if len(said) > 1 else message.split(": ", 2)[-1]


def test_each_kind_arrives_the_same_or_in_a_normal_form_or_is_refused(
    outcomes: list[tuple[str, str]],
) -> None:
    for kind, (argument, _) in zip(KINDS, outcomes, strict=True):
        if kind.normal is not None:
            assert argument.startswith("as "), (kind, argument)
        else:
            assert argument == THE_SAME or argument.startswith(REFUSED), (kind, argument)


def test_a_result_fares_as_its_argument_does(outcomes: list[tuple[str, str]]) -> None:
    differing = [(kind, pair) for kind, pair in zip(KINDS, outcomes, strict=True) if pair[0] != pair[1]]
    assert [(kind, pair) for kind, pair in differing if not all(map(_is_refused, pair))] == []


def _is_refused(outcome: str) -> bool:
    return outcome.startswith(REFUSED)


def test_the_page_says_what_became_of_each(outcomes: list[tuple[str, str]]) -> None:
    text = _page([(kind, argument) for kind, (argument, _) in zip(KINDS, outcomes, strict=True)])
    if os.environ.get("HYREX_WRITE_DOCS"):
        PAGE.write_text(text)
    assert PAGE.read_text() == text


def _page(told: list[tuple[Kind, str]]) -> str:
    """The whole page: values by what became of them, refused ones by their remedy."""
    same = [_row(kind) for kind, outcome in told if outcome == THE_SAME]
    changed = [_row(kind, _cell(outcome)) for kind, outcome in told if outcome.startswith("as ")]
    refused: dict[str, list[Kind]] = {}
    for kind, outcome in told:
        if _is_refused(outcome):
            refused.setdefault(outcome.removeprefix(REFUSED), []).append(kind)
    return "\n".join(
        [
            HEAD,
            *("## Arrives the same", "", "| hint | value |", "|---|---|", *same, ""),
            *("## Arrives in a normal form", "", "| hint | value | arrives |", "|---|---|---|", *changed, ""),
            *("## Refused", "", "What the message advises, and for which hints and values."),
            *(line for remedy, kinds in refused.items() for line in _refusals(remedy, kinds)),
            "",
        ]
    )


def _refusals(remedy: str, kinds: list[Kind]) -> list[str]:
    """A remedy, and what it is told of."""
    items = [f"- {_code(_hint(kind))}: {_code(_value(kind))}" for kind in kinds]
    return ["", *wrap(f"{remedy[0].upper()}{remedy[1:]}:", WIDTH, break_on_hyphens=False), "", *items]


def _row(kind: Kind, *cells: str) -> str:
    return f"| {' | '.join((_cell(_code(_hint(kind))), _cell(_code(_value(kind))), *cells))} |"


def _hint(kind: Kind) -> str:
    hint = kind.said or (kind.hint.__name__ if re.match("<", str(kind.hint)) else str(kind.hint))
    return re.sub(r"\b(?:[a-z_]\w*\.)+(?=\w)", "", hint)


def _value(kind: Kind) -> str:
    return kind.shown or re.sub(r"\b(?:datetime|zoneinfo|collections)\.", "", repr(kind.value))


def _code(text: str) -> str:
    return f"`{text}`"


def _cell(text: str) -> str:
    return text.replace("|", chr(92) + "|")
