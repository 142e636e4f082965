"""A change of hyrex/, broker/ or proto/ has a line in CHANGELOG.md.

Compared with where this branch left main; on main itself with the last tag, else with the first commit.
Commits that nobody but engineers can notice say so by a line `Changelog: none` in their message.
Exits 0 (there is one, or none is needed), 1 (it is missing), 77 (there is no history to compare with).
"""

import subprocess
import sys
from pathlib import Path
from typing import Final

PLACES: Final = ("hyrex", "broker", "proto")
FILE: Final = "CHANGELOG.md"
_SILENT: Final = ("--no-merges", "--invert-grep", "--grep=^Changelog: none")
PASSED, MISSING, NO_HISTORY = 0, 1, 77


def main(root: Path) -> int:
    """Look at the repository at `root`."""
    base = _base(root)
    if base is None:
        print("no git history to compare with")
        return NO_HISTORY
    changed = _git(root, "log", "--format=%h %s", *_SILENT, f"{base}..HEAD", "--", *PLACES)
    uncommitted = _git(root, "status", "--porcelain", "--", *PLACES)
    if not changed and not uncommitted:
        return PASSED
    before = _git(root, "show", f"{base}:{FILE}") or ""
    if _entries((root / FILE).read_text(encoding="utf-8")) - _entries(before):
        return PASSED
    last = (changed or uncommitted or "").splitlines()[0].strip()
    print(f"{FILE} has no new line since {base[:12]}, yet {', '.join(PLACES)} changed: {last}")
    print(
        "add one under [Unreleased], or `Changelog: none` to the message of a commit that nobody can notice"
    )
    return MISSING


def _base(root: Path) -> str | None:
    """The commit to compare with; None where git, the repository or its history is not there."""
    if _git(root, "rev-parse", "--show-toplevel") != str(root.resolve()):
        return None
    head = _git(root, "rev-parse", "HEAD")
    for main_branch in ("origin/main", "main"):
        left = _git(root, "merge-base", "HEAD", main_branch)
        if left and left != head:
            return left
    if _git(root, "rev-parse", "--is-shallow-repository") != "false":
        return None
    tag = _git(root, "describe", "--tags", "--abbrev=0", "--match=v*", "HEAD")
    first = _git(root, "rev-list", "--max-parents=0", "HEAD")
    return tag or (first.splitlines()[-1] if first else None)


def _entries(text: str) -> set[str]:
    return {line.strip() for line in text.splitlines() if line.startswith("- ")}


def _git(root: Path, *arguments: str) -> str | None:
    """What git says; None where it refuses or is not installed."""
    try:
        done = subprocess.run(["git", *arguments], cwd=root, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        return None
    return done.stdout.strip() if done.returncode == 0 else None


if __name__ == "__main__":
    sys.exit(main(Path(__file__).resolve().parent.parent))
