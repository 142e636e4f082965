"""What code and pages cite is there: rules, decisions, files of this repository, links and their anchors."""

import re
import subprocess
from functools import cache
from pathlib import Path

import pytest

from hyrex_broker.storage.statements import load
from tests.support.process import ROOT

RULES = ROOT / "docs" / "architecture" / "rules.md"
RULE = re.compile(r"\brules? (\d+)(?:(?:,| and|-| to) (\d+))?", re.IGNORECASE)
DECISION = re.compile(r"\bADRs? (\d{4})\b|\badr/(\d{4})")
LINK = re.compile(r"(?<!!)\[[^\]\[]*\]\(([^)\s]+)\)")
DEFINED = re.compile(r"^\[([^\]\[]+)\]: (\S+)$", re.MULTILINE)  # where a page's `[name]` leads
NAMED = re.compile(r"\[([^\]\[]+)\](?![(\[:])")
CODE = re.compile(r"```(?s:.*?)```|`[^`\n]*`|^    .*$", re.MULTILINE)
PLACE = re.compile(
    r"(?<![\w/.-])((?:broker|hyrex|tests|docs|scripts|benchmarks|proto|examples)/[\w./-]+\.\w+)"
)
# A proto is named by its package path; a wheel has the contract below hyrex/proto/.
ROOTS = (ROOT, ROOT / "proto")
SHIPPED = "hyrex/proto/"
GENERATED = ("hyrex/v1/",)


@cache
def texts() -> dict[str, str]:
    """Every tracked text of ours by its path, generated ones left out."""
    listed = subprocess.run(
        ["git", "ls-files", "*.py", "*.md", "*.sql", "*.proto", "*.toml"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    names = [name for name in listed.stdout.split() if not name.startswith(GENERATED)]
    return {name: (ROOT / name).read_text(encoding="utf-8") for name in names if (ROOT / name).is_file()}


def anchors(page: Path) -> set[str]:
    """The anchors of a page: of its headings as a renderer makes them, and those that it names itself."""
    text = page.read_text(encoding="utf-8")
    headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    made = {re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-") for heading in headings}
    return made | set(re.findall(r'id="([^"]+)"', text))


def test_every_rule_that_is_cited_exists() -> None:
    rules = [int(number) for number in re.findall(r"^## .*?</a>(\d+)\.", RULES.read_text(), re.MULTILINE)]
    assert rules[:20] == [*range(1, 21)]
    assert rules == sorted(set(rules))  # later ones come with what they are about
    missing = [
        f"{name}: rule {number}"
        for name, text in texts().items()
        for found in RULE.finditer(text)
        for number in found.groups()
        if number and int(number) not in rules
    ]
    assert not missing


def test_every_rule_is_cited_by_code_and_by_a_test() -> None:
    def cited(*places: str) -> set[int]:
        found = (RULE.finditer(text) for name, text in texts().items() if name.startswith(places))
        return {int(number) for matches in found for match in matches for number in match.groups() if number}

    rules = {int(number) for number in re.findall(r'id="rule-(\d+)"', RULES.read_text())}
    assert rules - cited("broker/", "hyrex/", "tests/", "docs/adr/") <= UNCITED


# Rules that no line of code stands for: they say how the whole is made.
UNCITED = {1, 14, 19, 20}


def test_every_later_rule_names_tests_that_hold_it() -> None:
    """By the file in which each test is: one of the same name elsewhere holds something else."""
    rules, _, held = RULES.read_text().partition("## What holds rules")
    lines = dict(re.findall(r"^- \*\*(\d+)\.\*\* ((?s:.*?))(?=^- |\Z)", held, re.MULTILINE))
    assert [*lines] == [number for number in re.findall(r'id="rule-(\d+)"', rules) if int(number) > 20]
    for number, line in lines.items():
        named = re.findall(r"`((?:[\w/]+\.py|test_\w+))`", line)
        assert [name.endswith(".py") for name in named[:1] + named[-1:]] == [True, False], number
        for name in named:
            if name.endswith(".py"):
                text = texts()[f"tests/{name}"]
            else:
                assert f"def {name}(" in text, f"rule {number}: {name}"


def test_every_decision_that_is_cited_exists() -> None:
    decisions = {path.name[:4] for path in (ROOT / "docs" / "adr").glob("[0-9]*.md")}
    cited = {
        (name, found[1] or found[2]) for name, text in texts().items() for found in DECISION.finditer(text)
    }
    assert not {f"{name}: ADR {number}" for name, number in cited if number not in decisions}


def test_every_decision_is_listed_and_says_its_status_and_date() -> None:
    index = (ROOT / "docs" / "adr" / "README.md").read_text()
    for path in sorted((ROOT / "docs" / "adr").glob("[0-9]*.md")):
        assert path.name in index
        assert re.search(r"^\*\*Status\.\*\* \w+.*\d{4}-\d\d-\d\d", path.read_text(), re.MULTILINE), path.name


def test_every_file_that_is_cited_exists() -> None:
    missing = {
        f"{name}: {found[1]}"
        for name, text in texts().items()
        if not name.startswith(("tests/", "CHANGELOG"))
        for found in PLACE.finditer(text)
        if not any((root / found[1].replace(SHIPPED, "proto/")).exists() for root in ROOTS)
    }
    assert not missing


def test_every_module_and_statement_that_the_map_names_exists() -> None:
    """docs/architecture.md names the broker's modules below their package, and statements of an SQL file."""
    text = texts()["docs/architecture.md"]
    roots = (ROOT, ROOT / "broker" / "hyrex_broker", ROOT / "hyrex" / "worker", ROOT / "hyrex/worker/child")
    named = re.findall(r"`([\w/]+(?:\.py|\.sql|/))`", text)
    assert [place for place in named if not any((root / place).exists() for root in roots)] == []
    assert len(named) > 50
    for aggregate, statements in re.findall(r"`storage/sql/(\w+)\.sql`\s+\(([^)]*)\)", text):
        assert set(re.findall(r"`(\w+)`", statements)) <= load(aggregate).keys()


def test_every_test_that_a_page_names_exists() -> None:
    tests = {
        name: text for name, text in texts().items() if name.startswith("tests/") and name.endswith(".py")
    }
    known = {name for text in tests.values() for name in re.findall(r"\bdef (test_\w+)", text)}
    known |= {Path(name).name for name in tests}
    missing = {
        f"{page}: {name}"
        for page, text in texts().items()
        if page.endswith(".md")
        for name in re.findall(r"`(?:[\w/]+/)?(test_\w+(?:\.py)?)`", text)
        if name not in known and not name.startswith("test_tasks")
    }
    assert not missing


@pytest.mark.parametrize("page", sorted(name for name in texts() if name.endswith(".md")))
def test_every_link_leads_somewhere(page: str) -> None:
    here = ROOT / page
    text = re.sub(CODE, "", texts()[page])
    for link in (*LINK.findall(text), *dict(DEFINED.findall(text)).values()):
        if re.match(r"\w+:", link):
            continue
        place, _, anchor = link.partition("#")
        target = (here.parent / place).resolve() if place else here
        assert target.exists(), f"{page}: {link}"
        if anchor and target.suffix == ".md":
            assert anchor in anchors(target), f"{page}: {link}"


@pytest.mark.parametrize("page", sorted(name for name, text in texts().items() if DEFINED.search(text)))
def test_every_named_link_is_defined_and_every_definition_used(page: str) -> None:
    text = re.sub(CODE, "", texts()[page])
    assert set(NAMED.findall(text)) == dict(DEFINED.findall(text)).keys()
