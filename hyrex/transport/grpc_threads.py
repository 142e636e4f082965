"""gRPC's own threads: they end some time after its last object, and what a fork before that makes may hang.

Linux tells which threads there are; elsewhere nobody does, and nothing is waited for.
"""

import time
from pathlib import Path
from typing import Final

__all__ = ["GrpcThreads"]

TASKS: Final = Path("/proc/self/task")
NAMES: Final = ("event_engine", "grpc", "lifeguard", "timer_manager")
# The longest of 200 waits on a loaded core was 0.1 s, but a machine may be busier than that one.
PATIENCE_S: Final = 10.0
OF_OTHERS_S: Final = 0.25
PAUSE_S: Final = 0.001


class GrpcThreads:
    """What is known of them in this process: only while others use gRPC too do some always live on."""

    def __init__(self) -> None:
        self._are_others = False

    def look(self) -> None:
        """Call this before gRPC is first used by us: threads that are there now are not ours."""
        self._are_others = _any_left()

    def wait_for_end(self) -> None:
        """Wait until none is left; where others use gRPC a moment at most, and long for that only once."""
        ends = time.monotonic() + (OF_OTHERS_S if self._are_others else PATIENCE_S)
        while _any_left():
            if time.monotonic() >= ends:
                self._are_others = True
                return
            time.sleep(PAUSE_S)
        self._are_others = False

    def begin_anew(self) -> None:
        """Forget everything, as in a fork's child, which has none."""
        self._are_others = False


def _any_left() -> bool:
    return TASKS.exists() and any(_name(task).startswith(NAMES) for task in TASKS.iterdir())


def _name(task: Path) -> str:
    try:
        return (task / "comm").read_text()
    except OSError:
        return "ended"
