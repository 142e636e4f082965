"""Nothing in the tree knows the machine it was written on."""

import re
import subprocess
from pathlib import Path

from tests.support.process import ROOT

# Assembled, so that this file does not find itself.
FOREIGN = re.compile(
    "|".join(["/" + r"(work|farm|root|home/\w+)/", "registry" + r"\.npmjs", "files" + r"\.pythonhosted"])
)


def tracked() -> list[Path]:
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True)
    return [ROOT / name for name in listed.stdout.split("\0") if name]


def test_no_path_of_a_machine_and_no_host_of_a_registry() -> None:
    found = []
    for path in tracked():
        if path.is_symlink() or not path.is_file():
            continue
        for number, line in enumerate(path.read_bytes().decode("utf-8", "replace").splitlines(), 1):
            if FOREIGN.search(line):
                found.append(f"{path.relative_to(ROOT)}:{number}: {line.strip()[:80]}")
    assert not found


def test_scripts_are_short_and_executable() -> None:
    for path in (ROOT / "scripts").iterdir():
        if path.suffix or path.name.startswith("_") or path.is_dir():
            continue
        assert path.stat().st_mode & 0o111, f"{path.name} is not executable"
        first, *rest = path.read_text(encoding="utf-8").splitlines()
        assert first.startswith("#!"), f"{path.name} has no #! line"
        assert "python" in first or len(rest) < 30, f"{path.name} has {len(rest) + 1} lines of shell"
