"""Each kind of argument and result through a real broker and worker, and the page that says so.

`HYREX_WRITE_DOCS=1 pytest tests/contract/test_argument_table.py` writes the page anew.
"""

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest

from hyrex import ArgumentInvalid, TaskFailed, TaskHandle
from hyrex.task import coder_of
from tests.contract.kinds import KINDS, TASKS, Kind, shape

PAGE: Final = Path(__file__).parents[2] / "docs" / "reference" / "arguments.md"
WAIT_S: Final = 60.0
THE_SAME: Final = "the same"
REFUSED: Final = "refused: "

HEAD: Final = """# Arguments and results

What is sent arrives equal in value and type, or in one of the normal forms below, or `send()` raises
`ArgumentInvalid` and nothing leaves. A result goes the same way; one that would change fails its run
with `ResultNotSerializable`, which names the return annotation.

What the hints prove exact is sent at once: `str`, `int`, `float`, `bool`, `bytes`, dates, UUIDs, enums
of text or ints, lists, dicts and models of those. Everything else is decoded again before it leaves
and compared, so its validators and serialisers run once more at `send()`.

## Normal forms

- What the hint converts arrives converted, as pydantic has it: `"3"` under `int` as `3`, a dict under a
  model as that model, a tuple under `list` as a list, text through the validators of its hint.
- An int under `float` arrives as the equal float.
- An instance of a subclass of a plain type (`numpy.float64`, pendulum's `DateTime`, a `StrEnum` under
  `str`) arrives as the plain type.
- A zone arrives as its offset: the same moment, another `tzinfo`.
- What stands under `Sequence` arrives as a list.
- `Json[...]` arrives parsed.
- All fields of a model count as set (`model_fields_set`).
- The result of a task without a return annotation comes back as JSON: a model as a dict, a tuple as a
  list, a date as text. What even that would lose is refused.

## The table

Written by `tests/contract/test_argument_table.py`, which sends each line through a broker and a
worker, as an argument and as a result.

| hint | value | arrives |
|---|---|---|
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
    """What the kind says of it; a form that it does not name is a change without a word."""
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
    lines = [_line(kind, argument) for kind, (argument, _) in zip(KINDS, outcomes, strict=True)]
    text = HEAD + "\n".join(lines) + "\n"
    if os.environ.get("HYREX_WRITE_DOCS"):
        PAGE.write_text(text)
    assert PAGE.read_text() == text


def _line(kind: Kind, outcome: str) -> str:
    hint = kind.said or (kind.hint.__name__ if re.match("<", str(kind.hint)) else str(kind.hint))
    hint = re.sub(r"\b(?:[a-z_]\w*\.)+(?=\w)", "", hint)
    value = kind.shown or re.sub(r"\b(?:datetime|zoneinfo|collections)\.", "", repr(kind.value))
    return f"| {_code(hint)} | {_code(value)} | {outcome.replace('|', chr(92) + '|')} |"


def _code(text: str) -> str:
    return f"`{text.replace('|', chr(92) + '|')}`"
