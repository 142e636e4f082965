"""The pages of the repository, for tests that hold them against the code."""

import re
import subprocess
from functools import cache
from typing import Final

from tests.support.process import ROOT


def _tracked() -> list[str]:
    listed = subprocess.run(["git", "ls-files", "*.md"], cwd=ROOT, capture_output=True, text=True, check=True)
    return [name for name in listed.stdout.split() if (ROOT / name).is_file()]


PAGES: Final = _tracked()
"""Every page that git tracks, by its path below the root."""


@cache
def read(page: str) -> str:
    """The text of a page."""
    return (ROOT / page).read_text(encoding="utf-8")


def section(page: str, heading: str) -> str:
    """What stands below a heading, as far as the next one of its level or above. Raises: KeyError."""
    found = re.search(rf"^(#+) {re.escape(heading)}$\n(.*?)(?=^#{{1,6}} |\Z)", read(page), re.M | re.S)
    if found is None:
        raise KeyError(f"{page} has no heading {heading!r}")
    level = len(found[1])
    start = found.start(2)
    end = re.search(rf"^#{{1,{level}}} ", read(page)[start:], re.M)
    return read(page)[start : start + end.start() if end else None]


def fenced(text: str, language: str) -> list[str]:
    """The blocks of code of that language."""
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
