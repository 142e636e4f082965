"""The demo, on a directory small enough for a test."""

import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[3]


def test_the_demo_adds_up_and_ends_with_status_0() -> None:
    command = [sys.executable, "scripts/demo.py", str(Path(json.__file__).parent)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=110, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "every number adds up" in done.stdout
    assert "1 timed_out" in done.stdout
    assert "1 cancelled" in done.stdout
