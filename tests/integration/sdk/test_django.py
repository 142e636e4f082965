"""Django's connections with the real Django, whose settings are those of a process."""

import subprocess
import sys
from pathlib import Path
from typing import Final

from tests.support.process import ROOT

PATIENCE_S: Final = 60.0


def test_connections_are_closed_around_runs_and_handlers_in_the_thread_that_has_them(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tests.integration.sdk.django_tasks", str(tmp_path / "shop.sqlite")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=PATIENCE_S, check=False)
    assert (done.returncode, done.stderr) == (0, "")
