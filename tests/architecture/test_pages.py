"""Pages are read in a terminal and in diffs too: their lines and the rows of their tables are short."""

import re
from collections.abc import Iterator
from typing import Final

import pytest

from tests.support.pages import PAGES, read

LINE: Final = 100
ROW: Final = 120
FENCE: Final = re.compile(r"^ *```")
# What cannot be broken: a code span, a link or an address that begins its line or follows a list's mark.
WHOLE: Final = re.compile(r"^(?:[-*>] |\d+\. )?(?:`[^`]+`|\[[^\]]*\]\([^)]*\)|<?https?://\S+)\S{0,2}$")


def prose(page: str) -> Iterator[tuple[int, str]]:
    """Number and text of each line of a page that is outside of fenced code."""
    fenced = False
    for number, line in enumerate(read(page).splitlines(), 1):
        if FENCE.match(line):
            fenced = not fenced
        elif not fenced:
            yield number, line


# Their tables are still to become lists; see issue 10.
WIDE: Final = {
    "CHANGELOG.md",
    "docs/README.md",
    "docs/architecture.md",
    "docs/conformance.md",
    "docs/performance.md",
    "docs/promises.md",
    "docs/reference/arguments.md",
    "tests/conformance/AGENT.md",
}


@pytest.mark.parametrize("page", sorted(set(PAGES) - WIDE))
def test_lines_of_a_page_are_short_and_wide_tables_are_lists(page: str) -> None:
    wide = [
        f"{page}:{number}: {len(line)} characters"
        for number, line in prose(page)
        if len(line) > (ROW if line.startswith("|") else LINE) and not WHOLE.match(line)
    ]
    assert not wide, f"wrap lines at {LINE}; make a list of a table whose rows pass {ROW}"
