"""Unit tests are quick: none starts a process or a Postgres.

While they run, tests/unit/conftest.py refuses it too.
"""

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from tests.support.process import ROOT
from tests.unit.conftest import STARTS

UNIT: Final = ROOT / "tests" / "unit"
STARTERS: Final = {"subprocess", "multiprocessing", "concurrent.futures.ProcessPoolExecutor"}
PLUGINS: Final = ("postgres", "processes")
# Fixtures of plug-ins, beside those of PLUGINS.
OTHER_FIXTURES: Final = {"hyrex_live"}


def parsed(place: Path) -> ast.Module:
    """The module's tree."""
    return ast.parse(place.read_text(encoding="utf-8"))


def fixtures_that_start() -> set[str]:
    """The fixtures that start Postgres, brokers, workers."""
    found = set(OTHER_FIXTURES)
    for name in PLUGINS:
        for node in ast.walk(parsed(ROOT / "tests" / "support" / f"{name}.py")):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                found |= {node.name for each in node.decorator_list if "fixture" in ast.unparse(each)}
    return found


def imported(tree: ast.Module) -> Iterator[str]:
    """The names that a module imports, in full."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (each.name for each in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield str(node.module)
            yield from (f"{node.module}.{each.name}" for each in node.names)


def wanted_fixtures(tree: ast.Module) -> Iterator[str]:
    """The parameters of its functions, and the fixtures that its marks name."""
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield from (each.arg for each in node.args.args)
        elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith("usefixtures"):
            yield from (each.value for each in node.args if isinstance(each, ast.Constant))  # type: ignore[misc]


def test_there_are_fixtures_that_start_processes() -> None:
    assert fixtures_that_start() >= {"postgres_url", "database_url", "broker", "start_worker", "processes"}


@pytest.mark.parametrize("place", sorted(UNIT.rglob("*.py")), ids=lambda place: str(place.relative_to(UNIT)))
def test_unit_test_starts_nothing(place: Path) -> None:
    tree = parsed(place)
    assert not STARTERS & {*imported(tree)}
    assert not fixtures_that_start() & {*wanted_fixtures(tree)}
    called = {ast.unparse(node.func) for node in ast.walk(tree) if isinstance(node, ast.Call)}
    assert not (STARTS | {"os.spawnv", "asyncio.create_subprocess_exec"}) & called
