"""What pages repeat of the code in tables, diagrams and trees is what the code says."""

import re
from typing import Final

import pytest

from hyrex import errors as sdk_errors
from hyrex.v1 import error_pb2
from hyrex_broker.domain.states import INITIAL, TRANSITIONS, Event, TaskState
from hyrex_broker.service import errors
from tests.support.pages import read, section
from tests.support.process import ROOT

PROTOCOL: Final = "docs/reference/protocol.md"
EDGE: Final = re.compile(r"^  (\S+) --> (\w+)", re.MULTILINE)


def test_the_protocol_lists_every_reason_with_its_code() -> None:
    rows = re.findall(r"^\| ([A-Z_]+) \| ([A-Z_]+) \|", section(PROTOCOL, "Errors"), re.MULTILINE)
    used = {(errors.reason_name(row), row.code.name) for row in (*errors.ROWS.values(), errors.DEFECT)}
    assert set(rows) == used
    assert len(rows) == len(used)
    names = {name.removeprefix("ERROR_REASON_") for name in error_pb2.ErrorReason.keys()}  # noqa: SIM118
    assert {reason for reason, _ in rows} == names - {"UNSPECIFIED"}


def moves(*, without: tuple[Event, ...] = ()) -> set[tuple[str, str]]:
    """Every legal move between two states, and the states in which a task begins."""
    kept = {(key[0].name, to.name) for key, to in TRANSITIONS.items() if key[1] not in without}
    return {(before, after) for before, after in kept if before != after} | {
        ("[*]", state.name) for state in INITIAL
    }


@pytest.mark.parametrize(
    ("page", "drawn"),
    [("docs/concepts.md", moves()), (PROTOCOL, moves(without=(Event.REOPEN, Event.REOPEN_BLOCKED)))],
    ids=["concepts", "protocol"],
)
def test_the_diagram_of_states_shows_the_table_of_moves(page: str, drawn: set[tuple[str, str]]) -> None:
    (diagram,) = re.findall(r"```mermaid\nstateDiagram-v2\n(.*?)```", read(page), re.DOTALL)
    assert {(before.upper(), after.upper()) for before, after in EDGE.findall(diagram)} == drawn
    assert {name for edge in drawn for name in edge} - {"[*]"} == {state.name for state in TaskState}


def test_the_tree_of_errors_is_that_of_the_classes() -> None:
    lines = re.findall(r"^((?:[│ ] {3})*(?:[├└]── )?)([A-Z]\w+(?:, [A-Z]\w+)*)", tree(), re.MULTILINE)
    parents: list[str] = []
    for indent, names in lines:
        depth = len(indent) // 4
        del parents[depth:]
        for name in names.split(", "):
            kind = getattr(sdk_errors, name)
            assert not parents or parents[-1] in {base.__name__ for base in kind.__bases__}, name
        parents.append(names)
    shown = {name for _, names in lines for name in names.split(", ")}
    assert shown == {name for name in sdk_errors.__all__ if issubclass(getattr(sdk_errors, name), Exception)}


def tree() -> str:
    """The tree of errors in the reference."""
    (found,) = re.findall(
        r"^```\n(HyrexError\n.*?)```", read("docs/reference/api.md"), re.DOTALL | re.MULTILINE
    )
    return str(found)


def test_every_word_of_the_glossary_is_used_and_explained_once() -> None:
    words = re.findall(
        r"^- \*\*([^*]+)\*\*|(?<=\. )\*\*([A-Z][a-z-]+)\*\*:", section("docs/concepts.md", "Words"), re.M
    )
    terms = [first or second for first, second in words]
    assert len(terms) > 40
    assert len(terms) == len({term.lower() for term in terms})
    places = [
        *(ROOT / "hyrex").rglob("*.py"),
        *(ROOT / "broker").rglob("*.py"),
        *(ROOT / "proto").rglob("*.proto"),
    ]
    text = "\n".join(place.read_text(encoding="utf-8") for place in places).lower()
    text = re.sub(r"[-_ ]", "", text)
    assert [term for term in terms if re.sub(r"[-_ ]", "", term.lower()) not in text] == []
