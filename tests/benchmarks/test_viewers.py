"""What viewers cost a broker is printed."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.timeout(180)
def test_the_cost_of_viewers_is_printed() -> None:
    briefly = "import sys; from benchmarks.viewers import main; sys.exit(main(settle_s=0.2))"
    command = [sys.executable, "-c", briefly, "0.2", "1"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=150)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("% more") == 3
