"""The shape of the house: no circle of imports, whichever way a module is imported."""

import ast
import subprocess
from collections import defaultdict
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Final

import pytest

from tests.support.process import ROOT

PACKAGES = {"hyrex": ROOT / "hyrex", "hyrex_broker": ROOT / "broker" / "hyrex_broker"}
GENERATED = "hyrex.v1"
LATE: Final = ("load", "import_module")


@cache
def modules() -> dict[str, Path]:
    """Every module of ours by its dotted name, generated ones left out."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "hyrex/*.py", "broker/*.py"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    found = {}
    for name in listed.stdout.split():
        path = ROOT / name
        dotted = name.removeprefix("broker/").removesuffix(".py").replace("/", ".").removesuffix(".__init__")
        if path.exists() and not dotted.startswith(GENERATED):
            found[dotted] = path
    return found


def imports(dotted: str) -> Iterator[str]:
    """What a module imports of ours: at its head, for types only, inside functions, by name too."""
    for node in ast.walk(ast.parse(modules()[dotted].read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in modules())
        elif isinstance(node, ast.ImportFrom) and node.module:
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                if inner in modules():
                    yield inner
                elif node.module in modules():
                    yield node.module
        elif isinstance(node, ast.Call) and getattr(node.func, "id", "") in LATE:
            yield from (
                each.value for each in node.args if isinstance(each, ast.Constant) and each.value in modules()
            )


@cache
def arrows() -> dict[str, frozenset[str]]:
    """Who imports whom."""
    return {dotted: frozenset(imports(dotted)) - {dotted} for dotted in modules()}


def knots(graph: dict[str, frozenset[str]]) -> list[list[str]]:
    """The sets of nodes that reach each other (Tarjan's algorithm, without recursion)."""
    index: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    found: list[list[str]] = []
    for start in graph:
        work = [(start, iter(sorted(graph[start])))] if start not in index else []
        while work:
            node, rest = work[-1]
            if node not in index:
                index[node] = low[node] = len(index)
                stack.append(node)
            step = next((other for other in rest if other in graph), None)
            if step is None:
                work.pop()
                if work:
                    low[work[-1][0]] = min(low[work[-1][0]], low[node])
                if low[node] == index[node]:
                    at = stack.index(node)
                    found.append(sorted(stack[at:]))
                    del stack[at:]
            elif step not in index:
                work.append((step, iter(sorted(graph[step]))))
            elif step in stack:
                low[node] = min(low[node], index[step])
    return [knot for knot in found if len(knot) > 1]


def test_no_circle_of_imports() -> None:
    assert knots(arrows()) == []


def test_no_circle_of_rooms() -> None:
    """Between folders, too; a file beside folders is a room of its own."""
    folders = {dotted for dotted, path in modules().items() if path.name == "__init__.py"}
    with_rooms = {folder.rpartition(".")[0] for folder in folders} | set(PACKAGES)

    def room(dotted: str) -> str:
        folder = dotted if dotted in folders else dotted.rpartition(".")[0]
        return dotted if folder in with_rooms else folder

    between: dict[str, set[str]] = defaultdict(set)
    for dotted, targets in arrows().items():
        between[room(dotted)] |= {room(target) for target in targets} - {room(dotted)}
    assert knots({name: frozenset(found) for name, found in between.items()}) == []


def test_no_two_classes_share_a_name() -> None:
    places: dict[str, list[str]] = defaultdict(list)
    for dotted, path in modules().items():
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ClassDef):
                places[node.name].append(dotted)
    assert {name: found for name, found in places.items() if len(found) > 1} == {}


@pytest.mark.parametrize(
    ("graph", "expected"),
    [
        ({"a": frozenset("b"), "b": frozenset("a"), "c": frozenset("a")}, [["a", "b"]]),
        ({"a": frozenset("b"), "b": frozenset("c"), "c": frozenset()}, []),
        ({"a": frozenset("b"), "b": frozenset("c"), "c": frozenset("a")}, [["a", "b", "c"]]),
    ],
)
def test_knots_are_found(graph: dict[str, frozenset[str]], expected: list[list[str]]) -> None:
    assert knots(graph) == expected
