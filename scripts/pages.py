"""Wide lines of the pages: prose is wrapped at 100 characters, and a table whose rows pass 120 is a list.

Fenced code may be wider, and so may a line that is one code span, link or address. Exits 1 if any page
has a wide line.
"""

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parent.parent
LINE: Final = 100
ROW: Final = 120
FENCE: Final = re.compile(r"^ *```")
WHOLE: Final = re.compile(r"^(?:[-*>] |\d+\. )?(?:`[^`]+`|\[[^\]]*\]\([^)]*\)|<?https?://\S+)\S{0,2}$")


def pages() -> list[str]:
    """Every page that git knows, by its path below the root."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "*.md"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    return sorted(name for name in listed.stdout.splitlines() if (ROOT / name).is_file())


def wide_lines(text: str) -> Iterator[tuple[int, int]]:
    """Number and length of each line that is too wide."""
    fenced = False
    for number, line in enumerate(text.splitlines(), 1):
        if FENCE.match(line):
            fenced = not fenced
        elif not fenced and len(line) > (ROW if line.startswith("|") else LINE) and not WHOLE.match(line):
            yield number, len(line)


def main() -> int:
    """Print each wide line."""
    found = [
        f"{page}:{number}: {length} characters"
        for page in pages()
        for number, length in wide_lines((ROOT / page).read_text(encoding="utf-8"))
    ]
    if found:
        print(f"wrap lines at {LINE}; make a list of a table whose rows pass {ROW}", *found, sep="\n")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
