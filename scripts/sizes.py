"""Report files over 300 lines and functions over 40; a report, not a rule.

scripts/size_exceptions.txt lists what may be larger, one `place  reason` a line.
"""

import ast
import subprocess
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
FILE_LINES = 300
FUNCTION_LINES = 40
GENERATED = "hyrex/v1/"


def python_files() -> Iterator[Path]:
    """Every Python file that git knows or would add, generated ones left out."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "*.py"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    for name in sorted(set(listed.stdout.splitlines())):
        if not name.startswith(GENERATED) and (ROOT / name).exists():
            yield ROOT / name


def large(path: Path) -> Iterator[tuple[str, int]]:
    """Places in a file that are over a limit, with their number of lines."""
    text = path.read_text(encoding="utf-8")
    name = path.relative_to(ROOT).as_posix()
    length = len(text.splitlines())
    if length > FILE_LINES:
        yield name, length
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            size = (node.end_lineno or node.lineno) - node.lineno + 1
            if size > FUNCTION_LINES:
                yield f"{name}:{node.name}", size


def exceptions() -> set[str]:
    """Places that are allowed to be large."""
    lines = (ROOT / "scripts" / "size_exceptions.txt").read_text(encoding="utf-8").splitlines()
    return {line.split()[0] for line in lines if line.strip() and not line.startswith("#")}


def main() -> None:
    """Print what is large and not excused."""
    allowed = exceptions()
    for path in python_files():
        for place, lines in large(path):
            if place not in allowed:
                print(f"{place} has {lines} lines")


if __name__ == "__main__":
    main()
