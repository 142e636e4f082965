"""The reference and the package name the same things."""

import builtins
import re
import subprocess
import sys
from pathlib import Path

import pytest

import hyrex
from hyrex import errors
from tests.support.process import ROOT

API = (ROOT / "docs" / "reference" / "api.md").read_text(encoding="utf-8")
# Named there, imported from elsewhere (and said so), or of Python itself.
ELSEWHERE = {"LiveHyrex", "StrEnum", "ThreadPoolExecutor"} | set(vars(builtins))
CLASSES = (
    hyrex.HyrexApp,
    hyrex.HyrexRegistry,
    hyrex.HyrexTask,
    hyrex.TaskCall,
    hyrex.TaskHandle,
    hyrex.TaskRun,
)


def documented() -> set[str]:
    """Whatever looks like a class, and every function that is called, in the reference's code."""
    code = " ".join("".join(pair) for pair in re.findall(r"`([^`\n]+)`|^([├│└][^\n]*)$", API, re.MULTILINE))
    classes = set(re.findall(r"(?<![\w.])[A-Z][a-z]+(?:[A-Z][a-z]+)+(?!\w)", code))
    return classes - ELSEWHERE


def test_every_documented_name_is_exported() -> None:
    assert documented() - set(hyrex.__all__) == set()


def test_every_exported_name_is_documented() -> None:
    missing = [name for name in hyrex.__all__ if not re.search(rf"(?<!\w){name}(?!\w)", API)]
    assert missing == []


@pytest.mark.parametrize("kind", CLASSES, ids=lambda kind: kind.__name__)
def test_what_completion_shows_of_a_class_is_documented(kind: type) -> None:
    shown = {name.removesuffix("_async") for name in dir(kind) if not name.startswith("_")}
    assert [name for name in sorted(shown) if not re.search(rf"(?<!\w){name}(?!\w)", API)] == []


def test_every_error_is_exported() -> None:
    assert set(errors.__all__) <= set(hyrex.__all__)


def test_a_misspelt_name_is_an_error_of_type_checkers(tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text("from hyrex import Tsak\nimport hyrex\nhyrex.HyrexRegistri()\nhyrex.HyrexRegistry()\n")
    options = [
        "--config-file=",
        "--follow-imports=silent",
        f"--cache-dir={tmp_path}",
        "--ignore-missing-imports",
    ]
    done = subprocess.run(
        [sys.executable, "-m", "mypy", *options, str(program)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=110,
    )
    found = [line for line in done.stdout.splitlines() if "attr-defined" in line]
    assert [re.findall(r'attribute "(\w+)"', line)[0] for line in found] == ["Tsak", "HyrexRegistri"], (
        done.stdout
    )
