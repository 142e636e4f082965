"""Words that code and pages do not use: metaphors where the field has a word, and old names of things.

The glossary (docs/concepts.md) has the words that they do use. Names are read word by word: `bury_child`,
`ChildBurial` and "buries" are all found.
"""

import re
import subprocess
from collections.abc import Iterator
from typing import Final

import pytest

from tests.support.process import ROOT

INSTEAD: Final = {
    "bury|buries|buried|burial": "take the runs of a dead child; end what it left",
    "bereave|bereaves|bereaved": "end a run with its child",
    "nursery": "first child",
    "obedience": "orders of the launcher, launcher link",
    "departure|departing": "drain",
    "victim|victims": "the process or child that is meant",
    "hopeless": "the broker refuses",
    "speechless|deaf": "the socket cannot be used",
    "heart|hearts": "heartbeats",
    "doubt|doubts|doubtless": "unresolved (a plan), outdated (a measurement)",
    "seal|seals": "token",
    "verdict|verdicts": "outcome",
    "backstop": "overdue runs",
    "turnover": "release rate",
    "wakeups": "notifications",
    "merger": "batcher",
    "feeder": "distribution",
    "offer|offers|offered|offerable": "reserve slots, announce capacity",
    "guilty|culprit": "the run, item or task that caused it",
    "complain|complains|complained|complaint": "warn",
}
ALLOWED: Final = {"verdict": r"docs/promises\.md"}
"""What stays where: the chaos run's judgement of each promise is its verdict (tests/chaos/verdict.py)."""
PHRASES: Final = (
    "without a word",
    "better things to do",
    "whoever waits for his turn",
)
"""Turns of phrase that have to be read twice."""
TREE: Final = ("hyrex", "broker", "docs", "proto", "examples", "README.md", "CONTRIBUTING.md", ":!hyrex/v1")

WORD: Final = re.compile(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])")


def lines() -> Iterator[tuple[str, int, str]]:
    listed = subprocess.run(
        ["git", "ls-files", "-z", *TREE], cwd=ROOT, capture_output=True, text=True, check=True
    )
    for name in filter(None, listed.stdout.split("\0")):
        path = ROOT / name
        if path.is_file() and path.suffix in (".py", ".md", ".sql", ".proto", ".txt"):
            for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
                yield name, number, line


@pytest.fixture(scope="module")
def tree() -> list[tuple[str, int, str]]:
    found = list(lines())
    assert len({name for name, _, _ in found}) > 250
    return found


def test_no_metaphor_where_the_field_has_a_word(tree: list[tuple[str, int, str]]) -> None:
    instead = {word: better for words, better in INSTEAD.items() for word in words.split("|")}
    found = [
        f"{name}:{number}: {word} (say: {instead[word]})"
        for name, number, line in tree
        for word in {each.lower() for each in WORD.findall(line)} & instead.keys()
        if not re.fullmatch(ALLOWED.get(word, ""), name)
    ]
    assert not found, "\n".join(found)


def test_no_phrase_that_has_to_be_read_twice(tree: list[tuple[str, int, str]]) -> None:
    texts: dict[str, list[str]] = {}
    for name, _, line in tree:
        texts.setdefault(name, []).append(line.strip().lstrip("#-/ ").lower())
    found = [
        f"{name}: {phrase}" for name, text in texts.items() for phrase in PHRASES if phrase in " ".join(text)
    ]
    assert not found


@pytest.mark.parametrize(
    "text", ["def bury_child():", "class ChildBurial:", "it buries them", "HOPELESS = 4"]
)
def test_names_are_read_word_by_word(text: str) -> None:
    forbidden = {word for words in INSTEAD for word in words.split("|")}
    assert forbidden & {each.lower() for each in WORD.findall(text)}
