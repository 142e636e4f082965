"""Profilers, debuggers and coverage go on after a run with a timeout, in the process where it ran."""

import subprocess
import sys
from typing import Final

from tests.support.process import ROOT

PROGRAM: Final = """
import sys, threading
from hyrex import HyrexRegistry
from hyrex.testing import inline

hy = HyrexRegistry()

@hy.task(timeout_seconds=60)
def add(a: int, b: int) -> int:
    return a + b

def send() -> None:
    assert add.send(1, 2).result() == 3

with inline():
    send()
    thread = threading.Thread(target=send)
    thread.start()
    thread.join()
events = []
sys.setprofile(lambda _frame, event, _argument: events.append(event))
(lambda: None)()
sys.setprofile(None)
assert "call" in events
"""


def test_a_profile_function_is_called_after_a_run_with_a_timeout() -> None:
    """It never came back: Python 3.11 waits for an interrupt that was dropped, at the first call."""
    subprocess.run([sys.executable, "-c", PROGRAM], cwd=ROOT, check=True, timeout=60)
