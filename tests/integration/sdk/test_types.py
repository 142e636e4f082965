"""A user's type checker sees parameters, results and handles as they are."""

import subprocess
import sys
from pathlib import Path

SAMPLE = Path(__file__).with_name("sample_types.py")


def test_sample_checks_under_mypy_strict(tmp_path: Path) -> None:
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "mypy",
            "--strict",
            "--config-file=",
            "--python-version=3.11",
            "--ignore-missing-imports",
            "--follow-imports=silent",
            f"--cache-dir={tmp_path}",
            str(SAMPLE),
        ],
        capture_output=True,
        text=True,
        check=False,
        timeout=110,
    )
    assert done.returncode == 0, done.stdout + done.stderr
