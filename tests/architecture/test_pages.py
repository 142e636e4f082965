"""The gate finds lines and tables of a page that are too wide, and nothing else."""

import subprocess
from pathlib import Path

import pytest

from scripts import pages

TOO_LONG = "word " * 21
CODE_OF_101 = "`" + "x" * 99 + "`"


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (TOO_LONG, [(1, 105)]),
        (f"short\n- {TOO_LONG}", [(2, 107)]),
        ("| " + "x" * 116 + " |", []),
        ("| " + "x" * 117 + " |", [(1, 121)]),
        (f"```\n{TOO_LONG}\n```\n{TOO_LONG}", [(4, 105)]),
        (f"    {TOO_LONG}", [(1, 109)]),
        (CODE_OF_101, []),
        (f"- {CODE_OF_101}.", []),
        (f"and {CODE_OF_101}", [(1, 105)]),
        ("https://example.org/" + "x" * 100, []),
    ],
)
def test_wide_lines_are_found_outside_of_code(text: str, found: list[tuple[int, int]]) -> None:
    assert list(pages.wide_lines(text)) == found


def test_pages_that_git_does_not_track_yet_are_looked_at_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    subprocess.run(["git", "init", "--quiet"], cwd=tmp_path, check=True)
    (tmp_path / "new.md").write_text(TOO_LONG)
    monkeypatch.setattr(pages, "ROOT", tmp_path)
    assert pages.pages() == ["new.md"]
    assert pages.main() == 1
