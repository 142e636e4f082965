"""One dialect in SDK, worker and broker: constants, annotations, `__all__`, loggers, docstrings."""

import ast
import re
from collections.abc import Iterator

from tests.support.process import ROOT

CONSTANT = re.compile(r"_?[A-Z][A-Z0-9]*(_[A-Z0-9]+)+|_?[A-Z][A-Z0-9]+")
PROGRAMS = ("hyrex/worker/", "hyrex/cli/", "hyrex/dashboard/", "broker/")
"""Nobody imports from these, so they need no `__all__`, but where they pass imported names on."""


def modules() -> Iterator[tuple[str, ast.Module]]:
    for top in ("hyrex", "broker/hyrex_broker"):
        for path in sorted((ROOT / top).rglob("*.py")):
            name = str(path.relative_to(ROOT))
            if not name.startswith("hyrex/v1/"):
                yield name, ast.parse(path.read_text(encoding="utf-8"))


def target_of(statement: ast.stmt) -> str:
    if isinstance(statement, ast.Assign) and isinstance(statement.targets[0], ast.Name):
        return statement.targets[0].id
    return ""


def test_constants_are_final() -> None:
    bare = [
        f"{name}:{statement.lineno} {target_of(statement)}"
        for name, tree in modules()
        for statement in tree.body
        if CONSTANT.fullmatch(target_of(statement))
    ]
    assert not bare, f"write NAME: Final = ...: {bare}"


def test_annotations_are_evaluated() -> None:
    """What is defined later stands in quotes; ruff finds what is not."""
    late = [
        name
        for name, tree in modules()
        for node in tree.body
        if isinstance(node, ast.ImportFrom) and node.module == "__future__"
    ]
    assert not late, f"quote the names instead of importing annotations from __future__: {late}"


def names_of_all(tree: ast.Module) -> set[str] | None:
    for statement in tree.body:
        if target_of(statement) == "__all__":
            assert isinstance(statement, ast.Assign)
            return set(ast.literal_eval(statement.value))
    return None


def test_modules_of_the_sdk_name_what_they_offer_and_programs_do_not() -> None:
    wrong = []
    for name, tree in modules():
        found = names_of_all(tree)
        defines = any(not isinstance(s, ast.Expr) for s in tree.body)
        if not name.startswith(PROGRAMS):
            wrong += [name] if found is None and defines else []
        elif found is not None:
            imported = {
                alias.asname or alias.name
                for node in ast.walk(tree)
                if isinstance(node, ast.ImportFrom)
                for alias in node.names
            }
            wrong += [name] if not found & imported else []
    assert not wrong, f"only modules of the SDK, and those that pass names on, have __all__: {wrong}"


def test_loggers_are_called_log_and_named_alike() -> None:
    """The broker's by module. The names of the SDK's and the worker's are few, for users' configurations."""
    allowed = {
        "'hyrex'",
        "'hyrex.dashboard'",
        "'hyrex.retry'",
        "'hyrex.testing'",
        "'hyrex.launcher'",
        "'hyrex.worker'",
        "'hyrex.run'",
    }
    wrong = []
    for name, tree in modules():
        for statement in tree.body:
            if not isinstance(statement, ast.Assign | ast.AnnAssign) or statement.value is None:
                continue
            if "getLogger" in ast.unparse(statement.value):
                assert isinstance(statement.value, ast.Call)
                argument = ast.unparse(statement.value.args[0])
                expected = {"__name__"} if name.startswith("broker/") else allowed
                if target_of(statement) != "log" or argument not in expected:
                    wrong.append(f"{name}:{statement.lineno} {ast.unparse(statement)}")
    assert not wrong


def docstrings(tree: ast.Module) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            text = ast.get_docstring(node)
            if text:
                yield text


def test_docstrings_of_functions_say_what_is_returned() -> None:
    """ "Return True if ..." (or "True if ..." of a property), not "Whether ..." nor "...; whether ..."."""
    odd = [
        f"{name}: {text.splitlines()[0]}"
        for name, tree in modules()
        for text in docstrings(tree)
        if re.match(r"Whether\b|[^\n]*; whether\b", text)
    ]
    assert not odd


def test_the_rules_see_every_module() -> None:
    found = [name for name, _ in modules()]
    assert len(found) > 250
    assert "hyrex/worker/stream/stream.py" in found
