"""`python -m hyrex.cli.check_target MODULE:APP`: imports a target in a process of its own and prints the
result.

It prints one JSON line. Output of the user's code goes to stderr, so that it does not mix with that line.
"""

import json
import os
import sys
import traceback
from pathlib import Path

from hyrex.worker.child.target import TargetInvalid, app_dir, load_target
from hyrex.worker.shared.description import describe


def place_of(error: BaseException) -> str:
    """FILE:LINE of the innermost frame of the user's own code, relative to the working directory."""
    if isinstance(error, SyntaxError) and error.filename:
        return _relative(error.filename, error.lineno or 1)
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if _is_own(frame.filename)]
    return _relative(own[-1].filename, own[-1].lineno or 1) if own else ""


def check(target: str) -> dict[str, object]:
    """Import the target; return its number of tasks, or the error."""
    try:
        return {"tasks": len(load_target(target).tasks)}
    except TargetInvalid as error:
        return {"invalid": str(error)}
    except BaseException as error:
        text = error.msg if isinstance(error, SyntaxError) else str(error)
        shown = describe(error).traceback
        return {"place": place_of(error), "error": f"{type(error).__name__}: {text}", "traceback": shown}


def _is_own(filename: str) -> bool:
    path = Path(filename)
    return any(map(path.is_relative_to, (Path.cwd(), app_dir()))) and "site-packages" not in path.parts


def _relative(filename: str, line: int) -> str:
    path = Path(filename)
    shown = path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path
    return f"{shown}:{line}"


def main() -> None:
    """Check the target of the command line."""
    answer = os.dup(1)
    os.dup2(2, 1)
    found = check(sys.argv[1])
    os.write(answer, json.dumps(found).encode() + b"\n")


if __name__ == "__main__":
    main()
