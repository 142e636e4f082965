"""Wide lines of the pages: prose is wrapped at 100 characters, and a table whose rows pass 120 is a list.

Fenced code may be wider, and so may a line that is one code span, link or address. A page that begins with a
list of its sections lists all of them. Exits 1 if any page breaks one of these rules.
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
FENCED: Final = re.compile(r"^```.*?^```", re.DOTALL | re.MULTILINE)
CONTENTS: Final = 4  # that many links to a page's own sections before the first are a list of them
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


def anchor(title: str) -> str:
    """What a section's title is called in a link to it."""
    return re.sub(r"[^\w\- ]", "", title.lower()).strip().replace(" ", "-")


def unlisted(text: str) -> list[str]:
    """Sections that the page's own list of sections leaves out."""
    head, *sections = re.split(r"^## ", FENCED.sub("", text), flags=re.MULTILINE)
    linked = re.findall(r"\]\(#([^)]+)\)", head)
    titles = [section.partition("\n")[0] for section in sections]
    return [title for title in titles if len(linked) >= CONTENTS and anchor(title).strip("-") not in linked]


def main() -> int:
    """Print each wide line, and each section that its page does not list."""
    texts = {page: (ROOT / page).read_text(encoding="utf-8") for page in pages()}
    wide = [
        f"{page}:{number}: {length} characters"
        for page in texts
        for number, length in wide_lines(texts[page])
    ]
    left_out = [f"{page}: {title}" for page in texts for title in unlisted(texts[page])]
    if wide:
        print(f"wrap lines at {LINE}; make a list of a table whose rows pass {ROW}", *wide, sep="\n")
    if left_out:
        print("sections that the list at a page's beginning leaves out", *left_out, sep="\n")
    return 1 if wide or left_out else 0


if __name__ == "__main__":
    sys.exit(main())
