"""What is measured of one source file. Knows nothing of tasks, so that a survey can be checked without."""

import ast
from collections.abc import Iterator
from pathlib import Path

from pydantic import BaseModel


class Measure(BaseModel):
    """One file: its size, and what is defined in it (None where it is not Python 3)."""

    lines: int
    size_bytes: int
    functions: int | None
    classes: int | None


def source_files(root: Path) -> Iterator[Path]:
    """Every .py file below a directory, in a fixed order; installed packages are left out."""
    for path in sorted(root.rglob("*.py")):
        if "site-packages" not in path.parts:
            yield path


def measure(path: Path, encoding: str = "utf-8") -> Measure:
    """Read and measure one file. Raises UnicodeDecodeError where it is not in that encoding."""
    text = path.read_bytes().decode(encoding)
    functions, classes = definitions(text)
    return Measure(
        lines=text.count("\n"), size_bytes=path.stat().st_size, functions=functions, classes=classes
    )


def definitions(text: str) -> tuple[int | None, int | None]:
    """How many functions and classes a source text defines."""
    try:
        tree = ast.parse(text)
    except (SyntaxError, ValueError):
        return None, None
    nodes = list(ast.walk(tree))
    functions = sum(isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) for node in nodes)
    return functions, sum(isinstance(node, ast.ClassDef) for node in nodes)
